"""Comparisons, verdicts and scores; a missing one is a state, never a number."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fairlead.records.prompts import Prompt, content_id


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
    """A reason to check a judgement by hand; it changes no verdict."""

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
