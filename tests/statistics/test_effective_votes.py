"""How many independent votes a panel is worth: the ends, Kish's formula, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.statistics.effective_votes import effective_votes


def errors(rng: np.random.Generator, members: int, items: int, together: float) -> np.ndarray:
    """Each member errs on three of ten items; with probability `together` it errs where the others do."""
    common = rng.random(items) < 0.3
    own = rng.random((members, items)) < 0.3
    return np.where(rng.random((members, items)) < together, common, own).astype(float)


def test_members_that_err_alike_are_one_vote_and_independent_ones_are_all() -> None:
    rng = np.random.default_rng(0)
    same = np.tile(errors(rng, 1, 200, 0.0), (3, 1))
    assert effective_votes(same, rng).value == pytest.approx(1)
    independent = effective_votes(errors(rng, 3, 4000, 0.0), rng)
    assert independent.value == pytest.approx(3, abs=0.15)
    assert independent.high is not None
    assert independent.high <= 3


def test_it_is_kish_s_formula() -> None:
    """Of nine members any two of which correlate by 0.44, two votes are left: 9 / (1 + 8 · 0.44) = 1.99."""
    rng = np.random.default_rng(1)
    found = effective_votes(errors(rng, 9, 20_000, 0.44**0.5), rng)
    assert found.value == pytest.approx(9 / (1 + 8 * 0.44), rel=0.05)
    two = np.array([[1.0, 1, 0, 0, 0, 0], [1.0, 0, 1, 0, 0, 0]])
    assert effective_votes(two, rng).value == pytest.approx(2 / (1 + np.corrcoef(two)[0, 1]))


def test_opposed_members_are_worth_no_more_than_their_number() -> None:
    rng = np.random.default_rng(2)
    one = (rng.random(100) < 0.5).astype(float)
    assert effective_votes(np.stack([one, 1 - one]), rng).value == 2


def test_members_that_never_err_say_nothing() -> None:
    undefined = effective_votes(np.zeros((3, 20)), np.random.default_rng(0))
    assert (undefined.value, undefined.low) == (None, None)
    assert "no two members" in undefined.method


def test_the_interval_covers_the_true_number_and_clusters_widen_it() -> None:
    rng = np.random.default_rng(3)
    truth = 4 / (1 + 3 * 0.25)
    covered = 0
    for _ in range(60):
        interval = effective_votes(errors(rng, 4, 300, 0.5), rng)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= truth <= interval.high
    assert covered >= 52
    few = errors(rng, 4, 60, 0.5)
    alone = effective_votes(few, np.random.default_rng(0))
    doubled = effective_votes(np.repeat(few, 2, axis=1), np.random.default_rng(0), list(np.repeat(np.arange(60), 2)))
    assert (doubled.low, doubled.high) == pytest.approx((alone.low, alone.high), abs=0.1)
