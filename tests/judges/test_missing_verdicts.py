"""How many verdicts are missing, and what to do where it is too many."""

from __future__ import annotations

from collections import Counter

import pytest

from fairlead.errors import JudgeError
from fairlead.judges.missing_verdicts import missing_share, reason_missing, refuse_if_missing
from fairlead.records import Score, ScoreState, VerdictState


def counts(**states: int) -> Counter[VerdictState]:
    return Counter({VerdictState(state): count for state, count in states.items()})


def test_an_inconsistent_pair_is_not_missing() -> None:
    assert missing_share(counts(win=1, inconsistent=2, unreadable=1, refused=1, failed=1)) == 0.5
    assert missing_share(counts(inconsistent=9)) == 0.0
    assert missing_share({}) == 0.0
    assert missing_share(Counter({ScoreState.SCORED: 3, ScoreState.FAILED: 1})) == 0.25


@pytest.mark.parametrize(
    ("states", "remedy"),
    [
        ({"win": 1, "failed": 3, "unreadable": 1}, "endpoint"),
        ({"win": 3, "unreadable": 19}, "use a model that can judge"),
        ({"win": 1, "refused": 3}, "does not decline"),
    ],
)
def test_the_remedy_fits_what_is_missing_most(states: dict[str, int], remedy: str) -> None:
    with pytest.raises(JudgeError, match=remedy):
        refuse_if_missing(counts(**states), limit=0.1, key="pairs.max_missing", judge="j")
    refuse_if_missing(counts(**states), limit=0.95, key="pairs.max_missing", judge="j")


def test_why_the_first_is_missing_and_who_judges_are_named() -> None:
    scores = [
        Score("a", ScoreState.SCORED, "j", value=3.0, reason="fine"),
        Score("b", ScoreState.FAILED, "j", reason="503:\n down for maintenance"),
    ]
    reason = reason_missing(scores)
    assert reason == "503: down for maintenance"
    assert reason_missing(scores[:1]) == ""
    judge = "openai:gpt-4.1:pairwise_v1@3c77892f,score_v1@1987cf79,correction_v1@66103976:1882a544"
    with pytest.raises(JudgeError) as error:
        refuse_if_missing(counts(win=1, failed=1), limit=0.1, key="max_missing", judge=judge, reason=reason)
    words = "openai:gpt-4.1: 50.0% of 2 judgements are missing (1 failed; the first: 503: down for maintenance)"
    assert str(error.value).startswith(words)
