"""The vocabulary of everything: what a prompt, a completion, a verdict, a preference and a score are.

Plain frozen values without I/O. Every record has an identity by content, so that two runs that see the same
text speak of the same thing, and everything that is missing is a state of its own, never a number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
PromptVariant = Literal["plain", "few_shot", "critique", "revision"]


def content_id(*parts: Any) -> str:
    """16 hex digits of the SHA-256 of `parts` as canonical JSON: the identity of a record by its content."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: a conversation that ends before the assistant's answer.

    Attributes:
        messages: the turns; a plain string prompt is one user turn.
        gold: reference fields that checks compare an answer with; no model ever sees them.
        cluster: the source or topic that the prompt belongs to ("" if unknown). Prompts of one cluster are not
            independent: splits keep them together and error bars count them as one group.
    """

    messages: tuple[Message, ...]
    gold: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = ""

    @property
    def id(self) -> str:
        """Identity of the text alone: gold and cluster may be corrected without changing it."""
        return content_id([[m.role, m.content] for m in self.messages])

    @property
    def text(self) -> str:
        """The turns as one plain text, for people, for judges and for finding near-duplicates."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{m.role}: {m.content}" for m in self.messages)

    @classmethod
    def of(cls, text: str, **kwargs: Any) -> Prompt:
        """A prompt of one user turn."""
        return cls((Message("user", text),), **kwargs)


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with the answer that SFT should teach."""

    prompt: Prompt
    answer: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus; 1 keeps the whole distribution.
        max_new_tokens: an answer that reaches it is cut and says so in `Completion.finish`.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of one model to one prompt, with all that is needed to draw it again.

    Attributes:
        model: who answered: base, sft, dpo, or the name of a model from elsewhere.
        index: number of this draw among those of its prompt.
        seed: seed of this draw; the same model, prompt, sampling and seed give the same text.
        finish: "stop" at the end-of-sequence token, "length" where `max_new_tokens` cut it.
        tokens: number of generated tokens, the end-of-sequence token included.
        variant: what the model was asked: the prompt itself, the prompt after examples, for a criticism of an earlier
            completion, or for its revision.
    """

    prompt_id: str
    text: str
    model: str
    sampling: Sampling
    index: int = 0
    seed: int = 0
    finish: Literal["stop", "length"] = "stop"
    tokens: int = 0
    variant: PromptVariant = "plain"


class VerdictState(StrEnum):
    """What became of a judgement; only the first three are verdicts."""

    WIN = "win"  # the first answer is better
    LOSS = "loss"  # the second answer is better
    TIE = "tie"
    INCONSISTENT = "inconsistent"  # the two orders disagree
    UNREADABLE = "unreadable"  # the judge answered and no verdict could be read
    REFUSED = "refused"  # the judge declined
    FAILED = "failed"  # no reply: outage, time-out, budget

    @property
    def decided(self) -> bool:
        """Whether it is a verdict: win, loss or tie."""
        return self in (VerdictState.WIN, VerdictState.LOSS, VerdictState.TIE)

    @property
    def missing(self) -> bool:
        """Whether the pair was not judged. An inconsistent pair was: the judge finds neither answer clearly better."""
        return self in (VerdictState.UNREADABLE, VerdictState.REFUSED, VerdictState.FAILED)

    @property
    def outcome(self) -> float | None:
        """What it counts for the first answer: a win 1, a loss 0, a tie and an inconsistent pair ½, else None."""
        if self.missing:
            return None
        return {VerdictState.WIN: 1.0, VerdictState.LOSS: 0.0}.get(self, 0.5)

    @property
    def swapped(self) -> VerdictState:
        """The same said of the two answers in the other order."""
        return {VerdictState.WIN: VerdictState.LOSS, VerdictState.LOSS: VerdictState.WIN}.get(self, self)


class ScoreState(StrEnum):
    """What became of a request for a score; only `scored` carries a value."""

    SCORED = "scored"
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def missing(self) -> bool:
        return self is not ScoreState.SCORED


class Flag(StrEnum):
    """What people should look at before they believe a judgement; it changes no verdict."""

    FIRST_INSTRUCTS_JUDGE = "first_instructs_judge"  # the first answer speaks to the judge
    SECOND_INSTRUCTS_JUDGE = "second_instructs_judge"
    ANSWER_INSTRUCTS_JUDGE = "answer_instructs_judge"  # the same of an answer that is scored by itself


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one prompt, for a judge. `first` and `second` are names of ours, not positions shown."""

    prompt: Prompt
    first: str
    second: str

    @property
    def id(self) -> str:
        return content_id(self.prompt.id, self.first, self.second)


@dataclass(frozen=True, slots=True)
class ModelPair:
    """Two models whose answers to the same prompts are compared: figures are of `candidate` over `reference`.

    As text, in the YAML and in report.json, it is `dpo_vs_sft`.
    """

    candidate: str
    reference: str

    def __str__(self) -> str:
        return f"{self.candidate}_vs_{self.reference}"

    @property
    def title(self) -> str:
        """The pair for people: dpo vs sft."""
        return f"{self.candidate} vs {self.reference}"

    @classmethod
    def parse(cls, text: str) -> ModelPair:
        """The pair that `str` wrote.

        Raises:
            ValueError: if the text is of another form.
        """
        candidate, separator, reference = text.partition("_vs_")
        if not separator or not candidate or not reference:
            raise ValueError(f"{text!r} is not a pair of models, such as dpo_vs_sft")
        return cls(candidate, reference)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's verdict on a `Comparison`.

    Attributes:
        comparison_id: the comparison it speaks of.
        state: win (the first answer is better), loss, tie, or why there is no verdict.
        judge: identity of the judge (kind, model, template version).
        margin: how much better the winner is in the judge's own units, None where the judge gives none.
        reason: the judge's words, or what went wrong.
        calls: ledger keys of the replies it rests on.
        orders: win, loss or tie of each order in which the answers were shown, as seen from the first answer; empty
            where the judge was shown one order, or none gave a verdict.
        flags: what people should look at.
    """

    comparison_id: str
    state: VerdictState
    judge: str
    margin: float | None = None
    reason: str = ""
    calls: tuple[str, ...] = ()
    orders: tuple[VerdictState, ...] = ()
    flags: tuple[Flag, ...] = ()

    @property
    def decided(self) -> bool:
        return self.state.decided

    @property
    def missing(self) -> bool:
        return self.state.missing

    @property
    def votes(self) -> tuple[float, ...]:
        """What each order counts for the first answer; one value where the orders are not known, none where missing."""
        outcomes = (state.outcome for state in (() if self.missing else self.orders or (self.state,)))
        return tuple(outcome for outcome in outcomes if outcome is not None)

    @property
    def outcome(self) -> float | None:
        """What it counts for the first answer, from 0 to 1: the mean of its orders; None where it is missing."""
        votes = self.votes
        return sum(votes) / len(votes) if votes else None


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to one prompt, for a judge that gives scores."""

    prompt: Prompt
    text: str

    @property
    def id(self) -> str:
        return content_id(self.prompt.id, self.text)


@dataclass(frozen=True, slots=True)
class Score:
    """A judge's score of an `Answer`: `value` in [1, 10], None unless `state` is scored."""

    answer_id: str
    state: ScoreState
    judge: str
    value: float | None = None
    reason: str = ""
    calls: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()

    def __post_init__(self) -> None:
        if (self.value is None) == (self.state is ScoreState.SCORED):
            raise ValueError(f"a score of state {self.state} cannot have the value {self.value}")

    @property
    def missing(self) -> bool:
        return self.state.missing


class DropReason(StrEnum):
    """Why a well-formed row of a file makes no preference pair; the value is the sentence that people read."""

    EMPTY_PROMPT = "empty prompt"
    EMPTY_CHOSEN = "empty chosen"
    EMPTY_REJECTED = "empty rejected"
    IDENTICAL = "identical chosen and rejected"
    EQUAL_SCORES = "equal scores"
    REJECTED_SCORES_HIGHER = "rejected has the higher score"
    NO_VERDICT = "no verdict"
    TOO_FEW_RATED = "fewer than two rated generations"
    PROMPT_ENDS_IN_ANSWER = "the prompt ends in the assistant's turn"
    SEVERAL_TURNS = "chosen and rejected are not one answer each to the same prompt"
    NOT_THE_ASSISTANT = "the last turn is not the assistant's"
    ONLY_TOOL_CALLS = "a turn holds tool calls and no text"


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
        provenance: how the pair was sampled and judged, or where it was read; None where nobody knows.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    margin: float | None = None
    provenance: Provenance | None = None

    @property
    def id(self) -> str:
        return content_id(self.prompt.id, self.chosen, self.rejected)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        value: the estimate; None where no value was passed.
        low, high: ends of the interval; None where it is undefined.
        n: number of values it rests on.
        method: how the ends were found, or why there are none.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str


Record = Prompt | Example | Completion | Comparison | Verdict | Answer | Score | Preference


def to_json(record: Record) -> dict[str, Any]:
    """A record as JSON values; `prompt` appears as `prompt_from_json` reads it."""
    data = asdict(record)
    if isinstance(record, Prompt):
        return _prompt_to_json(record)
    if isinstance(record, Example | Comparison | Answer | Preference):
        data["prompt"] = _prompt_to_json(record.prompt)
    if isinstance(record, Preference) and record.provenance is None:
        data["provenance"] = {}  # null would mean that the row says nothing of it
    return data


def message_dicts(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Turns as JSON values, as chat templates and chat endpoints take them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def _prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": prompt.id,
        "messages": message_dicts(prompt.messages),
    }
    if prompt.gold:
        data["gold"] = dict(prompt.gold)
    if prompt.cluster:
        data["cluster"] = prompt.cluster
    return data


def prompt_from_json(data: Mapping[str, Any]) -> Prompt:
    """The inverse of `to_json` for a prompt."""
    messages = tuple(Message(m["role"], m["content"]) for m in data["messages"])
    return Prompt(messages, data.get("gold", {}), data.get("cluster", ""))


def example_from_json(data: Mapping[str, Any]) -> Example:
    return Example(prompt_from_json(data["prompt"]), data["answer"])


def completion_from_json(data: Mapping[str, Any]) -> Completion:
    return Completion(**{**data, "sampling": Sampling(**data["sampling"])})


def verdict_from_json(data: Mapping[str, Any]) -> Verdict:
    return Verdict(
        **{
            **data,
            "state": VerdictState(data["state"]),
            "calls": tuple(data["calls"]),
            "orders": tuple(map(VerdictState, data.get("orders", ()))),
            "flags": tuple(map(Flag, data.get("flags", ()))),  # rows of before there were flags have none
        }
    )


def score_from_json(data: Mapping[str, Any]) -> Score:
    flags = tuple(map(Flag, data.get("flags", ())))
    return Score(**{**data, "state": ScoreState(data["state"]), "calls": tuple(data["calls"]), "flags": flags})


def preference_from_json(data: Mapping[str, Any]) -> Preference:
    return Preference(
        prompt_from_json(data["prompt"]),
        data["chosen"],
        data["rejected"],
        data["margin"],
        _provenance_from_json(data["provenance"]),
    )


def _provenance_from_json(data: Mapping[str, Any]) -> Provenance | None:
    if not data:
        return None
    if data["kind"] == "imported":
        return Imported(**data)
    draws = {side: _draw_from_json(data[side]) for side in ("chosen", "rejected")}
    flags = tuple(Flag(flag) for flag in data["flags"])
    return Sampled(**{**data, **draws, "calls": tuple(data["calls"]), "flags": flags})


def _draw_from_json(data: Mapping[str, Any]) -> Draw:
    return Draw(**{**data, "sampling": Sampling(**data["sampling"])})
