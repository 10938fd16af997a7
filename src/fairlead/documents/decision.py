"""Whether to fine-tune at all, as `fairlead decide` found it: decision.json, and `decision` in report.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fairlead.documents.base import Document
from fairlead.files import write_json

Conclusion = Literal["prompting is enough", "retrieval is enough", "fine-tune", "not enough evidence", "waived"]
Family = Literal["instructions", "few-shot", "retrieval", "few-shot + retrieval"]
Status = Literal["meets", "misses", "open"]
Holds = Literal["yes", "no", "open", "not measured"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Mean(_Part):
    """A mean over the dev prompts with its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int


class Figure(Mean):
    """One metric of a candidate.

    Attributes:
        missing: prompts without a value.
        target: what the mean must reach; None for a metric without a target.
        status: meets and misses are shown by the interval; open is neither.
        needed: prompts that would show on which side of the target the mean lies.
    """

    missing: int
    target: float | None
    status: Status | None
    needed: int | None


class Usage(_Part):
    """What a thousand answers take; tokens in thousands, seconds of computing or of latency, money."""

    input_tokens: float | None
    output_tokens: float | None
    seconds: float | None
    cost: float | None


class Instruction(_Part):
    """A text put before the prompt; None for the prompt as it is given."""

    name: str
    text: str | None


class Recipe(_Part):
    """What a candidate puts around the prompt."""

    instruction: Instruction
    shots: int
    selection: str
    passages: int
    search: str


class Candidate(_Part):
    """One way of asking one model, measured.

    Attributes:
        figures: every metric, by name.
        malformed: share of answers that a check of form refuses; None without such a check.
        recall: share of prompts whose gold passage was among those found; None where none is marked.
        cut: share of answers that the token limit ended.
        shots, passages: mean number that found room in the context.
    """

    candidate: str
    model: str
    family: Family
    recipe: Recipe
    status: Status
    figures: dict[str, Figure]
    malformed: Mean | None
    recall: Mean | None
    cut: float
    shots: float
    passages: float
    per_1000_answers: Usage


class Target(_Part):
    """What the mean of a metric must reach."""

    metric: str
    at_least: float


class Condition(_Part):
    """One of the four conditions for fine-tuning, with its evidence."""

    name: str
    holds: Holds
    evidence: str


class Training(_Part):
    """What there is to learn from.

    Attributes:
        prompts: distinct training prompts of all kinds.
        counts: rows by kind (sft, prompts, preferences).
        dropped: rows that `prepare` dropped, by reason.
        quality: mean of each metric on the answers that SFT would learn.
        repeated: share of SFT answers that stand there more than once.
        faults: the checks of ready pairs that warn or fail; None without ready pairs.
    """

    prompts: int
    counts: dict[str, int]
    dropped: dict[str, int]
    quality: dict[str, Mean]
    repeated: float | None
    faults: dict[str, str] | None


class NotTried(_Part):
    """A candidate that was not tried, and why."""

    candidate: str
    why: str


class LeftOut(_Part):
    """A document that could not be used, and why."""

    name: str
    reason: str


class Decision(Document):
    """The verdict and everything that was measured for it. A waived decision holds the fields up to `candidates`.

    Attributes:
        why: one clause; the reason of a waiver.
        needed: dev prompts that would settle it, where evidence is short.
        prompts: dev prompts that every candidate answered.
        lines: the decision in five lines for people.
        winner: the candidate that is enough; None where none is.
        nearest: the candidate nearest to the targets.
        fine_tuned_would_take: what a fine-tuned base would take, estimated.
        tuning_prompts: dev prompts that were shown to the instruction optimizer and score no candidate.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    schema_version: int = Field(alias="schema")
    verdict: Conclusion
    why: str
    needed: int | None
    prompts: int
    lines: tuple[str, ...]
    conditions: tuple[Condition, ...]
    candidates: tuple[Candidate, ...]
    winner: Candidate | None = None
    nearest: Candidate | None = None
    targets: tuple[Target, ...] = ()
    fine_tuned_would_take: Usage | None = None
    training: Training | None = None
    not_tried: tuple[NotTried, ...] = ()
    documents_left_out: tuple[LeftOut, ...] = ()
    tuning_prompts: int = 0

    def content(self) -> dict[str, Any]:
        """The decision as JSON values; a waived one has no more fields than were set."""
        return self.model_dump(mode="json", exclude_unset=True)

    def write(self, path: Path) -> None:
        write_json(path, self.content())
