"""Win rates: published intervals, exact coverage at thirty verdicts, and what equal length leaves of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from fairlead.records import Interval
from fairlead.statistics.intervals import proportion_interval
from fairlead.statistics.win_rate import length_adjusted_win_rate, win_rate
from tests.support.intervals import coverage, covers

N = 30


@pytest.mark.parametrize(("wins", "n"), [(0, 10), (3, 30), (15, 30), (30, 30), (299, 300), (1, 1)])
def test_win_rate_without_ties_is_wilsons(wins, n):
    rate, wilson = win_rate([1.0] * wins + [0.0] * (n - wins)), proportion_interval(wins, n)
    assert (rate.low, rate.high) == pytest.approx((wilson.low, wilson.high), abs=1e-9)


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
    rate = win_rate([1.0] * wins + [0.0] * losses + [0.5] * (n - wins - losses))
    assert (rate.low, rate.high) == pytest.approx(((1 + low) / 2, (1 + high) / 2), abs=1e-9)


def test_the_score_interval_holds_exactly_the_means_that_the_likeliest_distribution_does_not_reject():
    values = np.array([0.0, 0.1, 0.4, 0.4, 0.9, 1.0, 0.7])
    rate = win_rate(values)
    assert rate.low is not None
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

    assert statistic(rate.low) == pytest.approx(stats.norm.isf(0.025) ** 2, rel=1e-4)
    assert statistic(rate.high) == pytest.approx(stats.norm.isf(0.025) ** 2, rel=1e-4)


def test_swapping_the_models_mirrors_the_win_rate():
    outcomes = np.array([1, 1, 0.5, 0, 1, 0.75, 0.2, 1])
    rate, swapped = win_rate(outcomes), win_rate(1 - outcomes)
    assert (swapped.low, swapped.high) == pytest.approx((1 - rate.high, 1 - rate.low))


def test_thirty_wins_of_thirty_are_no_certainty():
    rate = win_rate([1.0] * 30)
    assert rate.value == 1.0
    assert rate.low == pytest.approx(30 / (30 + stats.norm.isf(0.025) ** 2))


def test_wins_of_few_clusters_count_as_one_each():
    rate = win_rate([1.0] * 30, clusters=[k % 5 for k in range(30)])
    assert rate.low == pytest.approx(win_rate([1.0] * 5).low)


@pytest.mark.parametrize("outcomes", [[0.5] * 7, [1e-17, 1.0], [1e-9] * 3 + [5e-324], [0.0], [1.0], [0.5]])
def test_win_rate_stays_inside_its_range_whatever_comes(outcomes):
    rate = win_rate(outcomes)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1


def test_win_rate_of_nothing_or_of_one_cluster_is_undefined():
    assert win_rate([]) == Interval(None, None, None, 0, "undefined: no values")
    assert win_rate([1, 0, 1], clusters=["a"] * 3).low is None


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
    return float(np.sum(chance[[covers(interval, truth) for _, _, interval in outcomes]]))


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


@pytest.mark.parametrize(("n", "a", "b"), [(30, 0.5, 0.5), (30, 0.3, 1.0), (100, 0.2, 2.0)])
def test_win_rate_of_probabilities_covers_what_it_says(n, a, b):
    rng = np.random.default_rng(1)
    assert 0.93 < coverage(lambda: (rng.beta(a, b, n),), win_rate, a / (a + b), 300) < 0.985


@pytest.mark.parametrize(("rate", "correlation"), [(0.5, 0.0), (0.85, 0.3)])
def test_win_rate_over_clusters_covers_what_it_says(rate, correlation):
    rng = np.random.default_rng(5)
    edge = stats.norm.ppf(rate)
    clusters = np.repeat(np.arange(20), 3)

    def draw():
        latent = math.sqrt(correlation) * rng.normal(size=20)[clusters]
        latent = latent + math.sqrt(1 - correlation) * rng.normal(size=60)
        return (latent < edge).astype(float), clusters

    assert 0.92 < coverage(draw, win_rate, rate, 400) < 0.98


def test_length_adjusted_win_rate_is_the_fit_that_a_general_optimiser_finds():
    rng = np.random.default_rng(6)
    length, other = rng.integers(50, 900, 60), rng.integers(50, 600, 60)
    outcomes = (rng.random(60) < special.expit((length - other) / 300)).astype(float)
    x = np.tanh((length - other) / np.std(length - other, ddof=1))

    def loss(b: np.ndarray) -> float:
        z = b[0] + b[1] * x
        return float(np.sum(np.logaddexp(0, z) - outcomes * z) + np.logaddexp(0, b[1]) - b[1] / 2)

    best = optimize.minimize(loss, np.zeros(2), tol=1e-12).x
    rate = length_adjusted_win_rate(outcomes, length, other, rng, draws=200)
    assert rate.value == pytest.approx(special.expit(best[0]), abs=1e-5)


def test_a_judge_that_only_likes_length_gives_fifty_percent_once_length_is_controlled():
    rng = np.random.default_rng(7)
    length, other = rng.normal(400, 100, 400), rng.normal(300, 100, 400)
    outcomes = (rng.random(400) < special.expit((length - other) / 60)).astype(float)
    assert win_rate(outcomes).low > 0.6
    assert covers(length_adjusted_win_rate(outcomes, length, other, rng, draws=500), 0.5)


def test_length_that_separates_wins_from_losses_gives_a_finite_answer():
    rate = length_adjusted_win_rate([0, 0, 0, 1, 1, 1] * 5, [1, 2, 3, 7, 8, 9] * 5, [5] * 30, np.random.default_rng(0))
    assert rate.value == pytest.approx(0.5, abs=0.01)
    assert 0.2 < rate.low < 0.45
    assert 0.55 < rate.high < 0.8


def test_equal_lengths_leave_the_win_rate_as_it_is():
    assert length_adjusted_win_rate([1, 0, 1], [4, 5, 6], [4, 5, 6], np.random.default_rng(0)) == win_rate([1, 0, 1])


@pytest.mark.parametrize(
    ("outcomes", "length", "reason"),
    [
        ([], [], "no values"),
        ([1], [3], "one value"),
        ([0.5] * 4, [1, 2, 3, 4], "all outcomes are equal"),
        ([0, 1, 1, 0], [7, 9, 12, 3], "every answer is longer"),
        ([0, 1, 1, 0], [-7] * 4, "every answer is shorter"),
    ],
)
def test_a_length_adjusted_win_rate_that_is_undefined_says_why(outcomes, length, reason):
    rate = length_adjusted_win_rate(outcomes, length, [0] * len(length), np.random.default_rng(0))
    assert rate.value is None
    assert reason in rate.method


def test_length_adjusted_win_rate_covers_what_it_says():
    rng = np.random.default_rng(8)
    hits = 0
    for _ in range(300):
        difference = rng.normal(0.4, 1, 60)
        x = np.tanh(difference / difference.std(ddof=1))
        outcomes = (rng.random(60) < special.expit(0.4 + x)).astype(float)
        rate = length_adjusted_win_rate(outcomes, difference, np.zeros(60), rng, draws=300)
        hits += covers(rate, special.expit(0.4))
    assert 0.93 < hits / 300 < 0.985


def test_the_same_seed_gives_the_same_length_adjusted_interval():
    values, length, other = [0, 1, 1, 0.5, 1, 0, 1], [3, 9, 4, 4, 2, 5, 6], [4] * 7
    first, again, changed = (
        length_adjusted_win_rate(values, length, other, np.random.default_rng(seed), draws=500) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != changed


def test_a_length_adjusted_win_rate_of_one_cluster_has_no_interval():
    rate = length_adjusted_win_rate([0, 1, 1, 0.5], [1, 5, 2, 7], [4] * 4, np.random.default_rng(0), list("aaaa"))
    assert rate.value is not None
    assert (rate.low, rate.method) == (None, "undefined: one cluster")


def test_length_adjusted_intervals_over_clusters_of_equal_prompts_are_those_of_the_clusters():
    """Each prompt three times is one prompt: tripling the rows must not narrow the interval."""
    rng = np.random.default_rng(11)
    length, other = rng.integers(50, 400, (2, 80))
    outcomes = (rng.random(80) < 0.6).astype(float)
    once = length_adjusted_win_rate(outcomes, length, other, np.random.default_rng(1), draws=2_000)
    thrice = length_adjusted_win_rate(
        np.repeat(outcomes, 3), np.repeat(length, 3), np.repeat(other, 3), np.random.default_rng(1), np.arange(240) // 3
    )
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.1)
