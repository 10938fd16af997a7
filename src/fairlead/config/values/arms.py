"""The arms of the comparison besides base, SFT and DPO: the best prompt, and models from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, StringConstraints, Tag

from fairlead.config.base import ModelPath, Section, WeightsPath
from fairlead.config.values.asked_models import EndpointModel

PROMPTED, RELEASE = "prompted", "release"
MODELS = ("base", "sft", "dpo")
"""The models of a project, which always are arms."""

ArmName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]


class ModelArm(Section):
    """A model made elsewhere."""

    name: ArmName = Field(description="its name in the tables and in pairs, such as today in dpo_vs_today")
    model: ModelPath = Field(description="model folder or hub id: full weights, or the base of `adapter`")
    adapter: WeightsPath | None = Field(None, description="folder or hub id of a PEFT adapter on it")


class ReleaseArm(Section):
    """A version that `fairlead release` made, such as the one in use today."""

    name: ArmName = Field(RELEASE, description="its name in the tables and in pairs")
    release: WeightsPath = Field(
        description="the released folder or hub id: an adapter on the project's base, or merged weights"
    )


class EndpointArm(Section):
    """A model behind an endpoint; its replies are kept in the ledger."""

    name: ArmName = Field(description="its name in the tables and in pairs, such as hosted in dpo_vs_hosted")
    endpoint: EndpointModel = Field(description="the model and how it is reached, as in decide.models")
    system: str | None = Field(None, description="system prompt that it is given")


def _kind(arm: Any) -> str:
    if isinstance(arm, str):
        return PROMPTED
    keys = arm if isinstance(arm, Mapping) else getattr(type(arm), "model_fields", ())
    return next((key for key in ("endpoint", RELEASE) if key in keys), "model")


Arm: TypeAlias = Annotated[
    Annotated[Literal["prompted"], Tag(PROMPTED)]
    | Annotated[ModelArm, Tag("model")]
    | Annotated[ReleaseArm, Tag(RELEASE)]
    | Annotated[EndpointArm, Tag("endpoint")],
    Discriminator(_kind),
]


def name_of_arm(arm: Literal["prompted"] | ModelArm | ReleaseArm | EndpointArm) -> str:
    """What the tables, and the pairs, call an arm."""
    return arm if isinstance(arm, str) else arm.name


def default_pairs(arms: Sequence[str], *, with_sft: bool) -> list[str]:
    """The pairs that are judged where the config names none: each training over its start, DPO over the other arms.

    SFT is compared with the best prompt too, or the gate could not say that it is to be released and DPO dropped.
    """
    trained = ["dpo_vs_sft", "sft_vs_base", "dpo_vs_base"] if with_sft else ["dpo_vs_base"]
    sft = [f"sft_vs_{PROMPTED}"] if with_sft and PROMPTED in arms else []
    return [*trained, *(f"dpo_vs_{arm}" for arm in arms), *sft]
