"""Comparisons judged by scores: n answers cost n questions instead of n(n − 1), and every verdict has a margin.

The form of UltraFeedback (Cui et al. 2023): each answer is rated by itself, the higher rating wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fairlead.judges import prompt_injection
from fairlead.judges.base import Judge
from fairlead.records import Answer, Comparison, Score, ScoreState, Verdict, VerdictState

_WORST_FIRST = (
    (ScoreState.FAILED, VerdictState.FAILED),
    (ScoreState.REFUSED, VerdictState.REFUSED),
    (ScoreState.UNREADABLE, VerdictState.UNREADABLE),
)


def answers_of(comparisons: Sequence[Comparison]) -> list[Answer]:
    """Every answer of the comparisons, once."""
    answers = [Answer(item.prompt, text) for item in comparisons for text in (item.first, item.second)]
    return list({answer.id: answer for answer in answers}.values())


def compare_by_scores(judge: Judge, comparisons: Sequence[Comparison]) -> Iterator[Verdict]:
    """Asks for the scores of all answers, then gives a verdict on every comparison."""
    scores = {score.answer_id: score for score in judge.score(answers_of(comparisons))}
    return (verdict_of(item, scores) for item in comparisons)


def verdict_of(item: Comparison, scores: Mapping[str, Score]) -> Verdict:
    """The higher score wins by the difference; equal scores tie; without both scores there is no verdict."""
    first, second = (scores[Answer(item.prompt, text).id] for text in (item.first, item.second))
    calls = (*first.calls, *second.calls)
    notes = prompt_injection.flags_of(item)
    flags = tuple(notes)
    if first.value is None or second.value is None:
        state = next(verdict for score, verdict in _WORST_FIRST if score in (first.state, second.state))
        reason = " | ".join([*notes.values(), *(score.reason for score in (first, second) if score.missing)])
        return Verdict(item.id, state, first.judge, reason=reason, calls=calls, flags=flags)
    reason = " | ".join([*notes.values(), f"{first.value:g} against {second.value:g}", first.reason, second.reason])
    difference = round(first.value - second.value, 9)  # expected scores are sums of floats
    state = VerdictState.TIE if difference == 0 else VerdictState.WIN if difference > 0 else VerdictState.LOSS
    return Verdict(item.id, state, first.judge, abs(difference), reason, calls, flags=flags)
