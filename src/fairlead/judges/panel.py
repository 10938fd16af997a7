"""Several judges that decide together, with how far they disagree."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Literal, Self, TypeVar

from fairlead.config.values.criteria import JudgedCriterion
from fairlead.documents.pairs import ReplyUsage
from fairlead.judges.base import Judge
from fairlead.judges.prompted import PromptedJudge
from fairlead.records import Answer, Comparison, Flag, Score, ScoreState, Verdict, VerdictState

T = TypeVar("T")
R = TypeVar("R")
Rule = Literal["majority", "mean"]


class PanelJudge:
    """Asks every member and joins what they say.

    Args:
        members: judges; each keeps its own replies in the ledger.
        rule: majority or mean; see `join_verdicts` and `join_scores`.
    """

    def __init__(self, members: Sequence[Judge], rule: Rule) -> None:
        self.members, self._rule = list(members), rule
        self._joined = self._split = 0
        self.name = f"panel:{rule}({'; '.join(member.name for member in members)})"

    def compare(self, items: Iterable[Comparison]) -> Iterator[Verdict]:
        for verdicts in self._together(items, lambda member, copy: member.compare(copy)):
            self._count({v.state for v in verdicts if v.decided})
            yield join_verdicts(verdicts, self._rule, self.name)

    def score(self, items: Iterable[Answer]) -> Iterator[Score]:
        for scores in self._together(items, lambda member, copy: member.score(copy)):
            self._count({s.value for s in scores if not s.missing})
            yield join_scores(scores, self._rule, self.name)

    def by_criterion(self, criterion: JudgedCriterion, of_member: Callable[[Judge, JudgedCriterion], Judge]) -> Self:
        """The panel whose members are all asked by one criterion, as `of_member` makes them."""
        return self.with_members([of_member(member, criterion) for member in self.members])

    def with_members(self, members: Sequence[Judge]) -> Self:
        """The panel with other members, and its rule."""
        return type(self)(members, self._rule)

    @property
    def disagreement(self) -> float | None:
        """Share of the items so far on which its members did not all say the same; None before any gave a verdict."""
        return self._split / self._joined if self._joined else None

    def _count(self, outcomes: set[Any]) -> None:
        self._joined += bool(outcomes)
        self._split += len(outcomes) > 1

    def _together(
        self, items: Iterable[T], ask: Callable[[Judge, Iterable[T]], Iterator[R]]
    ) -> Iterator[tuple[R, ...]]:
        """What every member says of each item; a member's error ends the work of all."""
        copies = itertools.tee(items, len(self.members))
        with ExitStack() as stack:
            streams = [ask(member, copy) for member, copy in zip(self.members, copies, strict=True)]
            for stream in streams:
                stack.callback(getattr(stream, "close", lambda: None))
            yield from zip(*streams, strict=True)


def join_verdicts(verdicts: Sequence[Verdict], rule: Rule, name: str) -> Verdict:
    """The panel's verdict on one comparison.

    Half or more of the members without a verdict leave the panel without one: the commonest of their states.
    majority: what more than half of the given verdicts say, else inconsistent. mean: 1 for a win, ½ for a tie, 0 for a
    loss; above ½ is a win. The margin is the distance of that mean from ½, doubled: 1 where all agree.
    """
    decided = [v for v in verdicts if v.decided]
    calls = tuple(call for v in verdicts for call in v.calls)
    counts = Counter(str(v.state) for v in verdicts)
    reason = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    flags = _flags(verdicts)
    comparison_id = verdicts[0].comparison_id
    if 2 * len(decided) <= len(verdicts):
        state = Counter(v.state for v in verdicts if not v.decided).most_common(1)[0][0]
        return Verdict(comparison_id, state, name, reason=reason, calls=calls, flags=flags)
    mean = statistics.fmean(outcome for v in decided if (outcome := v.state.outcome) is not None)
    if rule == "mean":
        state = VerdictState.TIE if mean == 0.5 else VerdictState.WIN if mean > 0.5 else VerdictState.LOSS
    else:
        [(state, count)] = Counter(v.state for v in decided).most_common(1)
        if 2 * count <= len(decided):
            state = VerdictState.INCONSISTENT
    margin = None if state is VerdictState.INCONSISTENT else abs(2 * mean - 1)
    return Verdict(comparison_id, state, name, margin=margin, reason=reason, calls=calls, flags=flags)


def join_scores(scores: Sequence[Score], rule: Rule, name: str) -> Score:
    """The panel's score of one answer: median (majority) or mean of those given, none if half or more are missing."""
    values = [s.value for s in scores if s.value is not None]
    calls = tuple(call for s in scores for call in s.calls)
    flags = _flags(scores)
    answer_id = scores[0].answer_id
    reason = f"{len(values)} of {len(scores)} members"
    if 2 * len(values) <= len(scores):
        state = Counter(s.state for s in scores if s.missing).most_common(1)[0][0]
        return Score(answer_id, state, name, reason=f"{reason} gave a score", calls=calls, flags=flags)
    value = statistics.median(values) if rule == "majority" else statistics.fmean(values)
    low, high = min(values), max(values)
    reason = f"{reason}, from {low:g} to {high:g}, apart by {high - low:g}"
    return Score(answer_id, ScoreState.SCORED, name, value=value, reason=reason, calls=calls, flags=flags)


def disagreement_of(judge: Judge) -> float | None:
    """How often a panel's members disagreed; None for a judge that is no panel."""
    return judge.disagreement if isinstance(judge, PanelJudge) else None


def usage_of(judge: Judge) -> ReplyUsage | None:
    """What a judge's replies took so far, a panel's members together; None for one that asks no language model."""
    match judge:
        case PromptedJudge():
            return judge.usage.total
        case PanelJudge():
            parts = [usage for member in judge.members if (usage := usage_of(member)) is not None]
            return ReplyUsage.sum(parts) if parts else None
        case _:
            return None


def _flags(judged: Sequence[Verdict] | Sequence[Score]) -> tuple[Flag, ...]:
    """The flags of all members, each once."""
    return tuple(dict.fromkeys(flag for judgement in judged for flag in judgement.flags))
