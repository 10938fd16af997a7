"""The mean over seeds and prompts: by hand, and its coverage where both are drawn anew."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.statistics.intervals import mean_interval
from fairlead.statistics.two_way import two_way_mean

TIMES = 600


def drawn(rng: np.random.Generator, seeds: int, prompts: int, of_seed: float, of_prompt: float) -> np.ndarray:
    """Values with a true mean of 0, seeds and prompts each with an effect of their own."""
    return (
        of_seed * rng.standard_normal((seeds, 1))
        + of_prompt * rng.standard_normal((1, prompts))
        + rng.standard_normal((seeds, prompts))
    )


def test_a_table_worked_by_hand() -> None:
    """Means of seeds 1 and 3, of prompts 1, 2, 3; no interaction: variance = 2/2 + 1/3."""
    found = two_way_mean([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]])
    assert found.of_seeds == (1.0, 3.0)
    assert found.mean.value == 2.0
    assert found.mean.high is not None
    df = (4 / 3) ** 2 / (1 + (1 / 3) ** 2 / 2)
    from scipy import stats

    assert found.mean.high - 2.0 == pytest.approx(float(stats.t.isf(0.025, df)) * (4 / 3) ** 0.5)
    assert found.seed_share == pytest.approx(1 / (4 / 3))


@pytest.mark.parametrize(("seeds", "of_seed"), [(3, 0.0), (3, 0.3), (5, 0.3), (8, 0.1)])
def test_the_interval_covers_the_mean_over_other_seeds_and_prompts(seeds: int, of_seed: float) -> None:
    rng = np.random.default_rng(seeds)
    covered = 0
    for _ in range(TIMES):
        interval = two_way_mean(drawn(rng, seeds, 120, of_seed, 1.0)).mean
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 0 <= interval.high
    assert 0.92 <= covered / TIMES <= 0.995


def test_one_seed_s_own_interval_covers_too_seldom() -> None:
    """What the two-way interval is for: with seeds that differ the interval over prompts alone is too narrow."""
    rng = np.random.default_rng(0)
    covered = sum(
        interval.low <= 0 <= interval.high
        for interval in (mean_interval(drawn(rng, 1, 120, 0.3, 1.0)[0]) for _ in range(TIMES))
        if interval.low is not None and interval.high is not None
    )
    assert covered / TIMES < 0.75


def test_the_share_of_the_seeds_and_the_test_that_they_differ() -> None:
    rng = np.random.default_rng(1)
    different = two_way_mean(drawn(rng, 5, 200, 1.0, 0.3))
    assert different.seed_share is not None
    assert different.seed_share > 0.8
    assert different.seeds_differ_p is not None
    assert different.seeds_differ_p < 1e-6
    ps = [two_way_mean(drawn(rng, 3, 60, 0.0, 1.0)).seeds_differ_p for _ in range(TIMES)]
    assert sum(p is not None and p < 0.05 for p in ps) / TIMES == pytest.approx(0.05, abs=0.03)


def test_prompts_of_one_cluster_are_one_group() -> None:
    rng = np.random.default_rng(2)
    few = drawn(rng, 3, 20, 0.1, 1.0)
    many, clusters = np.repeat(few, 5, axis=1), np.repeat(np.arange(20), 5)
    alone, together = two_way_mean(few), two_way_mean(many, list(clusters))
    assert (together.mean.low, together.mean.high) == pytest.approx((alone.mean.low, alone.mean.high))
    assert together.seeds_differ_p == pytest.approx(alone.seeds_differ_p)


def test_equal_values_have_no_variance_and_one_seed_is_refused() -> None:
    equal = two_way_mean(np.full((3, 4), 0.5))
    assert (equal.mean.low, equal.mean.high, equal.seed_share) == (0.5, 0.5, None)
    with pytest.raises(ValueError, match="1 seeds"):
        two_way_mean(np.zeros((1, 4)))
