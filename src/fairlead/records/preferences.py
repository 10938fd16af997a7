"""Preference triples and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from fairlead.records.completions import PromptVariant, Sampling
from fairlead.records.judgements import Flag
from fairlead.records.prompts import Prompt, content_id


class DropReason(StrEnum):
    """Why a well-formed row of a file makes no pair or example; the value is the sentence that people read."""

    EMPTY_PROMPT = "empty prompt"
    EMPTY_CHOSEN = "empty chosen"
    EMPTY_REJECTED = "empty rejected"
    IDENTICAL = "identical chosen and rejected"
    EQUAL_SCORES = "equal scores"
    REJECTED_SCORES_HIGHER = "rejected has the higher score"
    NO_VERDICT = "no verdict"
    DRAW = "draw"
    NO_MAJORITY = "no majority among the people"
    TOO_FEW_RATED = "fewer than two rated generations"
    PROMPT_ENDS_IN_ANSWER = "the prompt ends in the assistant's turn"
    SEVERAL_TURNS = "chosen and rejected are not one answer each to the same prompt"
    NOT_THE_ASSISTANT = "the last turn is not the assistant's"
    ONLY_TOOL_CALLS = "a turn holds tool calls and no text"
    EMPTY_ANSWER = "empty answer"
    NO_ANSWER = "no turn of the assistant"
    NOT_TRAINED_ON = "weight 0: not to be trained on"


@dataclass(frozen=True, slots=True)
class Draw:
    """How the answer of a pair was drawn: the fields of its `Completion` that draw it again."""

    model: str
    sampling: Sampling
    seed: int
    index: int
    finish: Literal["stop", "length"] = "stop"
    variant: PromptVariant = "plain"


@dataclass(frozen=True, slots=True)
class Sampled:
    """The origin of a pair that was sampled and judged here.

    Attributes:
        judge: identity of the judge.
        verdict: the `comparison_id` of the verdict that the pair rests on.
        reason: the judge's words.
        calls: ledger keys of the replies that the verdict rests on.
        flags: what people should look at in the verdict.
    """

    chosen: Draw
    rejected: Draw
    judge: str
    verdict: str
    reason: str = ""
    calls: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    kind: Literal["sampled"] = "sampled"


@dataclass(frozen=True, slots=True)
class Imported:
    """The origin of a pair that was read from a file or a data set.

    Attributes:
        source: the file or the hub id, "" before the pair has a place.
        row: number of the row; its line, in a file of JSON lines.
        format: the name of the form in which the row was read.
        columns: what else the row holds.
        request: OpenAI's options of the request (tools and the like), where they are not the defaults.
        outcome: win, loss or draw of the model, where the row compares it with a baseline.
        chosen_model, rejected_model: who wrote the answers, "" where the row does not say.
    """

    source: str = ""
    row: int = 0
    format: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] | None = None
    outcome: str = ""
    chosen_model: str = ""
    rejected_model: str = ""
    kind: Literal["imported"] = "imported"


Provenance = Sampled | Imported


@dataclass(frozen=True, slots=True)
class Preference:
    """A triple {prompt, chosen, rejected} with where it comes from.

    Attributes:
        margin: how much better `chosen` is in the judge's units, None where unknown.
        provenance: how the pair was sampled and judged, or where it was read; None where it is unknown.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    margin: float | None = None
    provenance: Provenance | None = None

    @property
    def id(self) -> str:
        return content_id(self.prompt.id, self.chosen, self.rejected)
