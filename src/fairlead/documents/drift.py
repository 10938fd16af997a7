"""`probe.json`: forgetting, drift and the implicit reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, model_validator

from fairlead.documents.base import Document
from fairlead.files import write_json
from fairlead.records import Interval

_GENERAL = "general_"


def general_fields(check: str) -> tuple[str, str]:
    """The two fields that a check of the general task adds: its mean by model, and its change over the base."""
    return f"{_GENERAL}{check}", f"{_GENERAL}{check}_over_base"


ByModel = dict[str, Interval]
"""By model: base, sft, dpo."""


class DriftResult(Document):
    """Forgetting, drift and the implicit reward of the trained models.

    Every check of the general task adds two fields, `general_<check>` and `general_<check>_over_base`: its mean by
    model, and the change over the base, paired by prompt.

    Attributes:
        perplexity: of the general text, by model; None where the project names no text.
        perplexity_over_base: ratio to the base's, window by window.
        implicit_reward_accuracy: share of held-out pairs whose chosen answer has the higher implicit reward.
        kl_from_reference: KL(π ‖ π_ref) in nats per answer, by `models.kl`; None where no held-out prompt leaves room
            for an answer.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ByModel]

    implicit_reward_accuracy: Interval
    perplexity: ByModel | None = None
    perplexity_over_base: ByModel | None = None
    kl_from_reference: Interval | None = None

    @property
    def general(self) -> dict[str, ByModel]:
        """The fields of the general task's checks, by name."""
        return dict(self.__pydantic_extra__)

    def content(self) -> dict[str, Any]:
        """The result as JSON values, without what was not measured."""
        return {name: value for name, value in self.model_dump(mode="json").items() if value is not None}

    def write(self, path: Path) -> None:
        write_json(path, self.content())

    @model_validator(mode="after")
    def _only_general(self) -> Self:
        unknown = next((name for name in self.general if not name.startswith(_GENERAL)), None)
        if unknown is not None:
            raise ValueError(f"unknown field {unknown}")
        return self
