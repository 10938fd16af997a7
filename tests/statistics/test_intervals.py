"""Intervals: hand-worked numbers, brute force at small n, and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fairlead.statistics.intervals import (
    bounded_mean_interval,
    mean_interval,
    missing_bounds,
    paired_difference,
    proportion_interval,
)
from fairlead.statistics.wilson import wilson_ends
from fairlead.statistics.win_rate import win_rate
from tests.support.intervals import coverage


def test_mean_interval_of_four_values_worked_by_hand():
    interval = mean_interval([1, 2, 3, 4])
    half = 3.182446305284263 * math.sqrt(5 / 3) / 2  # t(0.975, 3 df) · sd / √n
    assert interval.value == 2.5
    assert (interval.low, interval.high) == pytest.approx((2.5 - half, 2.5 + half))
    assert interval.n == 4


def test_clusters_of_size_one_change_nothing():
    values = [0.3, 1.7, 2.2, 0.1, 5.0]
    plain, single = mean_interval(values), mean_interval(values, clusters=list("abcde"))
    assert (single.low, single.high) == pytest.approx((plain.low, plain.high))


def test_clusters_of_equal_size_give_the_t_interval_of_their_means():
    values = [1.0, 2.0, 4.0, 4.0, 7.0, 9.0]
    interval = mean_interval(values, clusters=[0, 0, 1, 1, 2, 2])
    means = mean_interval([1.5, 4.0, 8.0])
    assert (interval.low, interval.high) == pytest.approx((means.low, means.high))


def test_cluster_variance_without_correction_is_millers():
    values, clusters = np.array([1.0, 2.0, 4.0, 9.0, 5.0]), np.array([0, 0, 1, 1, 2])
    residual = values - values.mean()
    pairs = sum(residual[i] * residual[j] for i in range(5) for j in range(5) if clusters[i] == clusters[j])
    sums = np.bincount(clusters, residual)
    assert pairs / 25 == pytest.approx(np.sum(sums**2) / 25)
    corrected = math.sqrt(np.sum(sums**2 / (1 - np.array([2, 2, 1]) / 5)) / 25)
    interval = mean_interval(values, clusters)
    assert interval.high is not None
    df = _brute_force_df(clusters, values)
    assert interval.high - values.mean() == pytest.approx(stats.t.isf(0.025, df) * corrected)


def _brute_force_df(clusters: np.ndarray, values: np.ndarray) -> float:
    """Satterthwaite's degrees of freedom from the full matrices of Imbens & Kolesár."""
    n, sizes = len(values), np.bincount(clusters)
    groups = len(sizes)
    means = np.bincount(clusters, values) / sizes
    within = np.sum((values - means[clusters]) ** 2) / (n - groups)
    between = np.sum(sizes * (means - values.mean()) ** 2) / (groups - 1)
    between = (between - within) / ((n - np.sum(sizes**2) / n) / (groups - 1))
    rho = min(max(between / (between + within), 0), 1)
    same = clusters[:, None] == clusters[None, :]
    omega = np.where(same, rho, 0.0) + (1 - rho) * np.eye(n)
    centre = np.eye(n) - 1 / n
    rows = np.array([(clusters == g).astype(float) @ centre / math.sqrt(1 - sizes[g] / n) for g in range(groups)])
    moment = rows @ omega @ rows.T
    return float(np.trace(moment) ** 2 / np.sum(moment**2))


@pytest.mark.parametrize(
    ("values", "clusters", "method"),
    [
        ([], None, "no values"),
        ([3.0], None, "one value"),
        ([3.0, 3.0, 3.0], None, "all values are equal"),
        ([0.1 + 0.2, 0.3], None, "all values are equal"),
        ([1.0, 2.0], ["a", "a"], "one cluster"),
    ],
)
def test_a_mean_interval_that_is_undefined_says_why(values, clusters, method):
    interval = mean_interval(values, clusters)
    assert (interval.low, interval.high) == (None, None)
    assert method in interval.method
    assert (interval.value is None) == (not values)


def test_nan_is_refused_and_not_skipped():
    with pytest.raises(ValueError, match="1 are not finite"):
        mean_interval([1.0, float("nan")])
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        win_rate([0.5, 1.1])
    with pytest.raises(ValueError, match="2 labels for 3 values"):
        win_rate([0, 1, 1], clusters=["a", "b"])
    with pytest.raises(ValueError, match="lengths differ"):
        paired_difference([1, 2], [1])
    with pytest.raises(ValueError, match="level"):
        mean_interval([1, 2], level=95)


def test_paired_difference_is_the_interval_of_the_differences():
    a, b = [3.0, 5.0, 4.0, 8.0], [2.0, 5.0, 1.0, 6.0]
    assert paired_difference(a, b) == mean_interval([1.0, 0.0, 3.0, 2.0])


def test_paired_difference_of_bounded_figures_that_never_differ_has_a_width():
    interval = paired_difference([1.0] * 30, [1.0] * 30, bounds=(0, 1))
    edge = 1.959963984540054**2 / 30  # Tango: z² / (n + z²)
    assert (interval.low, interval.high) == pytest.approx((-edge / (1 + edge), edge / (1 + edge)))
    assert paired_difference([1.0] * 30, [1.0] * 30).low is None


def test_rounding_is_no_difference():
    interval = paired_difference([0.3, 0.5], [0.1 + 0.2, 0.5])
    assert interval.value == 0.0


def test_wilsons_interval_of_81_in_263_as_published():
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3
    interval = proportion_interval(81, 263)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)


def test_missing_verdicts_bound_the_win_rate_from_both_sides():
    interval = missing_bounds([1.0, 1.0, 0.5, 0.0], missing=1)
    assert (interval.worst, interval.best) == (0.5, 0.7)
    assert (missing_bounds([], 3).worst, missing_bounds([], 3).best) == (0.0, 1.0)
    assert missing_bounds([], 0).worst is None
    assert (missing_bounds([4.0], 1, 1, 10).worst, missing_bounds([4.0], 1, 1, 10).best) == (2.5, 7.0)


@pytest.mark.parametrize("n", [5, 30, 200])
def test_mean_interval_covers_what_it_says(n):
    rng = np.random.default_rng(2)
    assert 0.93 < coverage(lambda: (rng.normal(7, 2, n),), mean_interval, 7, 1500) < 0.97


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("groups", [8, 30])
def test_clusters_of_very_unequal_size_are_covered_too(groups, correlation):
    rng = np.random.default_rng(3)

    def draw():
        sizes = rng.integers(1, 10, groups)
        clusters = np.repeat(np.arange(groups), sizes)
        shared = rng.normal(size=groups)[clusters] * math.sqrt(correlation)
        return shared + rng.normal(size=len(clusters)) * math.sqrt(1 - correlation), clusters

    assert 0.93 < coverage(draw, mean_interval, 0.0, 1000) < 0.975


def test_ignoring_clusters_covers_far_too_little():
    rng = np.random.default_rng(4)

    def draw():
        return (np.repeat(rng.normal(size=10), 5) + rng.normal(size=50) / 2,)

    assert coverage(draw, mean_interval, 0.0, 500) < 0.75


def test_bounded_mean_interval_scales_with_its_range():
    unit = bounded_mean_interval([0.2, 0.4, 0.9], 0, 1)
    tens = bounded_mean_interval([2.0, 4.0, 9.0], 0, 10)
    assert (tens.low, tens.high) == pytest.approx((10 * unit.low, 10 * unit.high))


def test_the_lower_end_of_a_difference_lies_above_the_margin_in_two_and_a_half_percent_where_the_truth_is_the_margin():
    rng = np.random.default_rng(4)
    wrong = sum(paired_difference(rng.normal(-0.5, 1, 30), np.zeros(30)).low > -0.5 for _ in range(2000))
    assert wrong / 2000 == pytest.approx(0.025, abs=0.01)


@pytest.mark.parametrize(("successes", "n"), [(0, 3), (13, 24), (64, 64), (500, 1000)])
def test_wilsons_ends_are_those_of_scipy(successes: int, n: int) -> None:
    interval = proportion_interval(successes, n)
    assert wilson_ends(successes / n, n) == pytest.approx((interval.low, interval.high), abs=1e-9)
