"""Intervals: hand-worked numbers, brute force at small n, and coverage, exact where it can be counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from fairlead.records import Interval
from fairlead.statistics.intervals import (
    bounded_mean_interval,
    mean_interval,
    missing_bounds,
    paired_difference,
    proportion_interval,
)
from fairlead.statistics.win_rate import win_rate


def holds(interval: Interval, truth: float) -> bool:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low - 1e-9 <= truth <= interval.high + 1e-9


def test_mean_interval_of_four_values_worked_by_hand():
    found = mean_interval([1, 2, 3, 4])
    half = 3.182446305284263 * math.sqrt(5 / 3) / 2  # t(0.975, 3 df) · sd / √n
    assert found.value == 2.5
    assert (found.low, found.high) == pytest.approx((2.5 - half, 2.5 + half))
    assert found.n == 4


def test_clusters_of_size_one_change_nothing():
    values = [0.3, 1.7, 2.2, 0.1, 5.0]
    plain, single = mean_interval(values), mean_interval(values, clusters=list("abcde"))
    assert (single.low, single.high) == pytest.approx((plain.low, plain.high))


def test_clusters_of_equal_size_give_the_t_interval_of_their_means():
    values = [1.0, 2.0, 4.0, 4.0, 7.0, 9.0]
    found = mean_interval(values, clusters=[0, 0, 1, 1, 2, 2])
    means = mean_interval([1.5, 4.0, 8.0])
    assert (found.low, found.high) == pytest.approx((means.low, means.high))


def test_cluster_variance_without_correction_is_millers():
    values, clusters = np.array([1.0, 2.0, 4.0, 9.0, 5.0]), np.array([0, 0, 1, 1, 2])
    residual = values - values.mean()
    pairs = sum(residual[i] * residual[j] for i in range(5) for j in range(5) if clusters[i] == clusters[j])
    sums = np.bincount(clusters, residual)
    assert pairs / 25 == pytest.approx(np.sum(sums**2) / 25)
    corrected = math.sqrt(np.sum(sums**2 / (1 - np.array([2, 2, 1]) / 5)) / 25)
    found = mean_interval(values, clusters)
    assert found.high is not None
    df = _brute_force_df(clusters, values)
    assert found.high - values.mean() == pytest.approx(stats.t.isf(0.025, df) * corrected)


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
    found = mean_interval(values, clusters)
    assert (found.low, found.high) == (None, None)
    assert method in found.method
    assert (found.value is None) == (not values)


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
    found = paired_difference([1.0] * 30, [1.0] * 30, bounds=(0, 1))
    edge = 1.959963984540054**2 / 30  # Tango: z² / (n + z²)
    assert (found.low, found.high) == pytest.approx((-edge / (1 + edge), edge / (1 + edge)))
    assert paired_difference([1.0] * 30, [1.0] * 30).low is None


def test_rounding_is_no_difference():
    found = paired_difference([0.3, 0.5], [0.1 + 0.2, 0.5])
    assert found.value == 0.0


@pytest.mark.parametrize(("wins", "n"), [(0, 10), (3, 30), (15, 30), (30, 30), (299, 300), (1, 1)])
def test_win_rate_without_ties_is_wilsons(wins, n):
    found, wilson = win_rate([1.0] * wins + [0.0] * (n - wins)), proportion_interval(wins, n)
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=1e-9)


def test_wilsons_interval_of_81_in_263_as_published():
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3
    found = proportion_interval(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


def test_win_rate_with_ties_is_tangos():
    # Tango 1998: score interval of (b - c)/n with b wins, c losses, found here from its own equations
    wins, losses, n = 12, 2, 50
    z2 = stats.norm.isf(0.025) ** 2

    def excess(delta: float) -> float:
        a = 2 * n
        b = -wins - losses + (2 * n - wins + losses) * delta
        c = -losses * delta * (1 - delta)
        q21 = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
        return (wins - losses - n * delta) ** 2 - z2 * n * (2 * q21 + delta * (1 - delta))

    low, high = optimize.brentq(excess, -0.5, 0.2), optimize.brentq(excess, 0.2, 0.9)
    found = win_rate([1.0] * wins + [0.0] * losses + [0.5] * (n - wins - losses))
    assert (found.low, found.high) == pytest.approx(((1 + low) / 2, (1 + high) / 2), abs=1e-9)


def test_the_score_interval_holds_exactly_the_means_that_the_likeliest_distribution_does_not_reject():
    values = np.array([0.0, 0.1, 0.4, 0.4, 0.9, 1.0, 0.7])
    found = win_rate(values)
    assert found.low is not None
    support = np.unique(values)
    counts = np.array([(values == v).sum() for v in support])

    def statistic(mean: float) -> float:
        fit = optimize.minimize(
            lambda w: -np.sum(counts * np.log(np.maximum(w, 1e-300))),
            np.full(len(support), 1 / len(support)),
            bounds=[(1e-9, 1)] * len(support),
            constraints=[
                {"type": "eq", "fun": lambda w: w.sum() - 1},
                {"type": "eq", "fun": lambda w: w @ support - mean},
            ],
            options={"ftol": 1e-14, "maxiter": 500},
        )
        return (values.mean() - mean) ** 2 * len(values) / float(fit.x @ (support - mean) ** 2)

    assert statistic(found.low) == pytest.approx(stats.norm.isf(0.025) ** 2, rel=1e-4)
    assert statistic(found.high) == pytest.approx(stats.norm.isf(0.025) ** 2, rel=1e-4)


def test_swapping_the_models_mirrors_the_win_rate():
    outcomes = np.array([1, 1, 0.5, 0, 1, 0.75, 0.2, 1])
    found, swapped = win_rate(outcomes), win_rate(1 - outcomes)
    assert (swapped.low, swapped.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_thirty_wins_of_thirty_are_no_certainty():
    found = win_rate([1.0] * 30)
    assert found.value == 1.0
    assert found.low == pytest.approx(30 / (30 + stats.norm.isf(0.025) ** 2))


def test_wins_of_few_clusters_count_as_one_each():
    found = win_rate([1.0] * 30, clusters=[k % 5 for k in range(30)])
    assert found.low == pytest.approx(win_rate([1.0] * 5).low)


@pytest.mark.parametrize("outcomes", [[0.5] * 7, [1e-17, 1.0], [1e-9] * 3 + [5e-324], [0.0], [1.0], [0.5]])
def test_win_rate_stays_inside_its_range_whatever_comes(outcomes):
    found = win_rate(outcomes)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_win_rate_of_nothing_or_of_one_cluster_is_undefined():
    assert win_rate([]) == Interval(None, None, None, 0, "undefined: no values")
    assert win_rate([1, 0, 1], clusters=["a"] * 3).low is None


def test_missing_verdicts_bound_the_win_rate_from_both_sides():
    found = missing_bounds([1.0, 1.0, 0.5, 0.0], missing=1)
    assert (found.worst, found.best) == (0.5, 0.7)
    assert (missing_bounds([], 3).worst, missing_bounds([], 3).best) == (0.0, 1.0)
    assert missing_bounds([], 0).worst is None
    assert (missing_bounds([4.0], 1, 1, 10).worst, missing_bounds([4.0], 1, 1, 10).best) == (2.5, 7.0)


N = 30


@pytest.fixture(scope="module")
def every_outcome_of_thirty() -> list[tuple[int, int, Interval]]:
    """(wins, ties, interval) of all 496 ways in which 30 verdicts can fall."""
    return [
        (wins, ties, win_rate([1.0] * wins + [0.5] * ties + [0.0] * (N - wins - ties)))
        for wins in range(N + 1)
        for ties in range(N + 1 - wins)
    ]


def _exact_coverage(outcomes: list[tuple[int, int, Interval]], truth: float, ties: float) -> float:
    chances = [truth - ties / 2, ties, 1 - truth - ties / 2]
    counts = np.array([[wins, tied, N - wins - tied] for wins, tied, _ in outcomes])
    chance = stats.multinomial.pmf(counts, N, chances)
    return float(np.sum(chance[[holds(interval, truth) for _, _, interval in outcomes]]))


def test_exact_coverage_of_the_win_rate_at_thirty_prompts(every_outcome_of_thirty):
    """Verdicts are discrete: no interval covers 95 % at every rate; the mean over rates does, and none is far."""
    mean_by_ties = {}
    for ties in (0.0, 0.1, 0.3, 0.6):
        truths = np.linspace(0.5, 1 - ties / 2 - 0.02, 25)
        coverage = [_exact_coverage(every_outcome_of_thirty, truth, ties) for truth in truths]
        assert min(coverage) > 0.91, (ties, min(coverage))
        assert max(coverage) < 0.992, (ties, max(coverage))
        mean_by_ties[ties] = np.mean(coverage)
    assert all(0.94 < mean < 0.97 for mean in mean_by_ties.values()), mean_by_ties


def _coverage(draw, interval, truth: float, times: int) -> float:
    return sum(holds(interval(*draw()), truth) for _ in range(times)) / times


@pytest.mark.parametrize(("n", "a", "b"), [(30, 0.5, 0.5), (30, 0.3, 1.0), (100, 0.2, 2.0)])
def test_win_rate_of_probabilities_covers_what_it_says(n, a, b):
    rng = np.random.default_rng(1)
    assert 0.93 < _coverage(lambda: (rng.beta(a, b, n),), win_rate, a / (a + b), 300) < 0.985


@pytest.mark.parametrize("n", [5, 30, 200])
def test_mean_interval_covers_what_it_says(n):
    rng = np.random.default_rng(2)
    assert 0.93 < _coverage(lambda: (rng.normal(7, 2, n),), mean_interval, 7, 1500) < 0.97


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("groups", [8, 30])
def test_clusters_of_very_unequal_size_are_covered_too(groups, correlation):
    rng = np.random.default_rng(3)

    def draw():
        sizes = rng.integers(1, 10, groups)
        clusters = np.repeat(np.arange(groups), sizes)
        shared = rng.normal(size=groups)[clusters] * math.sqrt(correlation)
        return shared + rng.normal(size=len(clusters)) * math.sqrt(1 - correlation), clusters

    assert 0.93 < _coverage(draw, mean_interval, 0.0, 1000) < 0.975


def test_ignoring_clusters_covers_far_too_little():
    rng = np.random.default_rng(4)

    def draw():
        return (np.repeat(rng.normal(size=10), 5) + rng.normal(size=50) / 2,)

    assert _coverage(draw, mean_interval, 0.0, 500) < 0.75


@pytest.mark.parametrize(("rate", "correlation"), [(0.5, 0.0), (0.85, 0.3)])
def test_win_rate_over_clusters_covers_what_it_says(rate, correlation):
    rng = np.random.default_rng(5)
    edge = stats.norm.ppf(rate)
    clusters = np.repeat(np.arange(20), 3)

    def draw():
        latent = math.sqrt(correlation) * rng.normal(size=20)[clusters]
        latent = latent + math.sqrt(1 - correlation) * rng.normal(size=60)
        return (latent < edge).astype(float), clusters

    assert 0.92 < _coverage(draw, win_rate, rate, 400) < 0.98


def test_bounded_mean_interval_scales_with_its_range():
    unit = bounded_mean_interval([0.2, 0.4, 0.9], 0, 1)
    tens = bounded_mean_interval([2.0, 4.0, 9.0], 0, 10)
    assert (tens.low, tens.high) == pytest.approx((10 * unit.low, 10 * unit.high))
