"""How many verdicts are missing, and what to do where it is too many."""

from __future__ import annotations

from collections import Counter

import pytest

from fairlead.errors import JudgeError
from fairlead.judges.missing_verdicts import missing_share, refuse_if_missing
from fairlead.records import ScoreState, VerdictState


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
