"""`gate.json`, the gate's record: what was demanded of which figure, what was found, and what it was found on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import JsonValue, SerializerFunctionWrapHandler, model_serializer

from fairlead.documents.base import Document

Status = Literal["passed", "failed", "insufficient"]
Candidate = Literal["sft", "dpo"]
DEMANDS = ("above", "at_least", "below", "at_most", "not_worse_by")


class CriterionResult(Document):
    """A criterion with the figure that was found.

    Attributes:
        figure: path into report.json.
        value: what was found there; None where it is undefined.
        reason: why the evidence is short; "" where it is not.
        above, at_least, below, at_most, not_worse_by: what was demanded; None, and absent from the JSON, what was not.
    """

    figure: str
    value: int | float | None
    status: Status
    reason: str = ""
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    not_worse_by: float | None = None

    @property
    def demanded(self) -> str:
        """The bounds, as words."""
        bounds = ((name, getattr(self, name)) for name in DEMANDS)
        return ", ".join(f"{name.replace('_', ' ')} {bound:g}" for name, bound in bounds if bound is not None)

    @model_serializer(mode="wrap")
    def _demands_that_were_made(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None or key not in DEMANDS}


class CandidateResult(Document):
    """A model that may be released, judged."""

    status: Status
    criteria: tuple[CriterionResult, ...]


class GateRecord(Document):
    """The gate's verdict.

    Attributes:
        status, criteria: those of DPO.
        candidates: DPO, and SFT where there is one.
        advice: what to do with them.
        prompts: held-out prompts.
        judged: hash of every artifact that was judged, by stage.
        eval_prompts: SHA-256 of the held-out prompts.
        adapter: SHA-256 of every file of the DPO model; `adapters` of every candidate.
        template: SHA-256 of the chat template.
        config: the gate's section of the YAML.
        waived: why the project trained without a decision; None where there is one.
        config_hash: of the config of everything that was judged.
        versions: of the packages.
    """

    status: Status
    criteria: tuple[CriterionResult, ...]
    candidates: dict[Candidate, CandidateResult]
    advice: str
    prompts: int
    judge: str | None
    judged: dict[str, str]
    eval_prompts: str
    adapter: dict[str, str]
    adapters: dict[Candidate, dict[str, str]]
    template: str | None
    config: dict[str, JsonValue]
    waived: str | None
    config_hash: str
    versions: dict[str, str]
