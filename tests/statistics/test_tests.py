"""Bootstrap, tests, agreement, ranking and power: hand-worked numbers, brute force, simulated error rates."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from scipy import optimize, special, stats

from fairlead.records import Interval
from fairlead.statistics.bootstrap import bootstrap_interval
from fairlead.statistics.bradley_terry import bradley_terry
from fairlead.statistics.intervals import mean_interval, paired_difference
from fairlead.statistics.kappa import cohens_kappa
from fairlead.statistics.power import detection_power, prompts_needed, smallest_detectable_difference, win_rate_sd
from fairlead.statistics.tests import holm, non_inferiority, permutation_test, sign_test
from fairlead.statistics.win_rate import length_adjusted_win_rate, win_rate


def covered(interval: Interval, truth: float) -> bool:
    return interval.low is not None and interval.high is not None and interval.low <= truth <= interval.high


# bootstrap


def test_bootstrap_agrees_with_scipys_bca_on_large_n():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=1500)
    found = bootstrap_interval(values, rng, draws=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=5_000, rng=rng, batch=500).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_the_same_seed_gives_the_same_bootstrap_interval():
    values = [0, 1, 1, 0.5, 1, 0, 1]
    again = [bootstrap_interval(values, np.random.default_rng(3), draws=500) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0] != bootstrap_interval(values, np.random.default_rng(4), draws=500)


@pytest.mark.parametrize(
    ("values", "clusters", "reason"),
    [
        ([], None, "no values"),
        ([1.0], None, "one value"),
        ([0.5] * 9, None, "all values are equal"),
        ([0.0, 1.0], [1, 1], "one cluster"),
        ([0.0, 1.0, 0.0, 1.0], [1, 1, 2, 2], "do not vary"),
    ],
)
def test_a_bootstrap_that_is_undefined_says_why(values, clusters, reason):
    found = bootstrap_interval(values, np.random.default_rng(0), clusters, draws=200)
    assert (found.low, found.high) == (None, None)
    assert reason in found.method


@pytest.mark.parametrize("draw", ["normal", "verdicts"])
def test_bootstrap_covers_what_it_says_at_thirty_prompts(draw):
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(800):
        values = rng.normal(0.6, 1, 30) if draw == "normal" else rng.choice([0, 0.5, 1], 30, p=[0.25, 0.3, 0.45])
        hits += covered(bootstrap_interval(values, rng, draws=400), 0.6)
    assert 0.93 < hits / 800 < 0.97


def test_bootstrap_over_clusters_covers_what_it_says():
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(500):
        clusters = np.repeat(np.arange(30), rng.integers(1, 6, 30))
        values = rng.normal(size=30)[clusters] + rng.normal(size=len(clusters))
        hits += covered(bootstrap_interval(values, rng, clusters, draws=400), 0.0)
    assert 0.92 < hits / 500 < 0.975


@pytest.mark.parametrize("kind", ["verdicts", "probabilities"])
def test_sixty_thousand_verdicts_take_under_five_seconds(kind):
    rng = np.random.default_rng(7)
    values = rng.choice([0, 0.5, 1], 60_000) if kind == "verdicts" else rng.beta(0.3, 0.5, 60_000)
    start = time.process_time()
    found = bootstrap_interval(values, rng, draws=10_000)
    assert time.process_time() - start < 5
    exact = mean_interval(values)
    assert found.high - found.low == pytest.approx(exact.high - exact.low, rel=0.03)
    clusters = np.arange(60_000) // 2
    start = time.process_time()
    found, exact = bootstrap_interval(values, rng, clusters), mean_interval(values, clusters)
    assert time.process_time() - start < 5
    assert found.high - found.low == pytest.approx(exact.high - exact.low, rel=0.03)


# tests


def test_sign_test_of_eight_wins_and_two_losses_worked_by_hand():
    found = sign_test(8, 2)
    assert found.p == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert found.n == 10
    assert sign_test(0, 0).p is None


def test_permutation_test_is_exact_at_small_n():
    differences = np.array([1.0, 2.0, -0.5, 3.0, 0.7, 0.0])
    patterns = [np.dot(signs, differences) for signs in itertools.product([1, -1], repeat=6)]
    expected = np.mean(np.abs(patterns) >= abs(differences.sum()) - 1e-12)
    found = permutation_test(differences, np.random.default_rng(0))
    assert found.p == pytest.approx(expected)
    assert found.n == 5


def test_permutation_test_flips_whole_clusters():
    # three clusters with sums 2, 3, -1: of 8 patterns, |sum| >= 4 holds for 4
    found = permutation_test([1, 1, 2, 1, -1], np.random.default_rng(0), clusters=list("aabbc"))
    assert (found.p, found.n) == (0.5, 3)


def test_random_permutations_agree_with_the_normal_limit():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.1, 1, 301)
    limit = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt(np.sum(differences**2)))
    assert permutation_test(differences, rng, draws=40_000).p == pytest.approx(limit, abs=0.015)


def test_the_permutation_test_of_wins_and_losses_is_the_sign_test():
    differences = [1.0] * 70 + [-1.0] * 52 + [0.0] * 40
    found = permutation_test(differences, np.random.default_rng(1), draws=40_000)
    assert found.p == pytest.approx(sign_test(70, 52).p, abs=0.006)
    assert found.n == 122


def test_no_difference_anywhere_cannot_be_tested():
    assert permutation_test([0.0, 0.0], np.random.default_rng(0)).p is None
    assert permutation_test([], np.random.default_rng(0)).p is None


@pytest.mark.parametrize("n", [12, 30])
def test_tests_at_five_percent_reject_five_percent_under_the_null(n):
    rng = np.random.default_rng(2)
    times = 1500
    rejected = np.zeros(2)
    for _ in range(times):
        differences = rng.laplace(size=n)
        difference = mean_interval(differences)
        rejected += [
            permutation_test(differences, rng, draws=500).p <= 0.05,
            not covered(difference, 0.0),
        ]
    assert all(0.035 < share < 0.065 for share in rejected / times), rejected / times


def test_the_sign_test_never_rejects_more_than_it_says():
    # discrete, so below 5 %: counted exactly over all splits of n untied pairs
    for n in range(1, 41):
        p = np.array([sign_test(wins, n - wins).p for wins in range(n + 1)])
        assert stats.binom.pmf(np.arange(n + 1), n, 0.5)[p <= 0.05].sum() <= 0.05


def test_holm_worked_by_hand_and_in_the_order_given():
    assert holm([0.04, 0.01, 0.03]).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]).tolist() == []
    with pytest.raises(ValueError, match="pvalues"):
        holm([0.5, math.nan])


def test_holm_is_the_closed_test_of_bonferroni():
    # a hypothesis is rejected when every set of hypotheses that holds it is, each by Bonferroni
    p = np.random.default_rng(3).random(5) ** 3
    for number, adjusted in enumerate(holm(p)):
        sets = [s for k in range(1, 6) for s in itertools.combinations(range(5), k) if number in s]
        assert adjusted == pytest.approx(max(min(1.0, len(s) * min(p[list(s)])) for s in sets))


def test_non_inferiority_is_shown_only_by_the_whole_interval():
    assert non_inferiority(Interval(-0.01, -0.04, 0.02, 50, ""), margin=0.05) is True
    assert non_inferiority(Interval(0.01, -0.06, 0.08, 50, ""), margin=0.05) is False
    assert non_inferiority(Interval(0.0, None, None, 1, ""), margin=0.05) is None
    with pytest.raises(ValueError, match="margin"):
        non_inferiority(Interval(0.0, -1, 1, 9, ""), margin=0)


def test_non_inferiority_is_wrong_in_two_and_a_half_percent_at_its_margin():
    rng = np.random.default_rng(4)
    wrong = sum(
        non_inferiority(paired_difference(rng.normal(-0.5, 1, 30), np.zeros(30)), margin=0.5) for _ in range(2000)
    )
    assert wrong / 2000 == pytest.approx(0.025, abs=0.01)


# agreement


def test_kappa_worked_by_hand():
    # Cohen 1960's form: 20 and 15 agreed of 50, 5 and 10 not; p_o = 0.7, p_e = 0.5
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = cohens_kappa(first, second)
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high
    assert cohens_kappa(second, first).value == pytest.approx(0.4)


def test_perfect_agreement_has_a_width_and_one_single_label_no_kappa():
    perfect = cohens_kappa([1, 2] * 10, [1, 2] * 10)
    assert (perfect.value, perfect.high) == (1.0, pytest.approx(1.0))
    assert 0.6 < perfect.low < 0.75
    assert cohens_kappa(["tie"] * 9, ["tie"] * 9).value is None
    assert cohens_kappa([], []).value is None
    assert cohens_kappa([1, 1], [1, 2]).value == 0.0


@pytest.mark.parametrize("agree", [0.6, 0.8, 0.95])
def test_kappa_covers_what_it_says_at_thirty_items(agree):
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(500):
        first = rng.integers(0, 2, 30)
        second = np.where(rng.random(30) < agree, first, 1 - first)
        hits += covered(cohens_kappa(first.tolist(), second.tolist()), 2 * agree - 1)
    assert 0.93 < hits / 500 < 0.985


# length


def test_length_adjusted_win_rate_is_the_fit_that_a_general_optimiser_finds():
    rng = np.random.default_rng(6)
    length, other = rng.integers(50, 900, 60), rng.integers(50, 600, 60)
    outcomes = (rng.random(60) < special.expit((length - other) / 300)).astype(float)
    x = np.tanh((length - other) / np.std(length - other, ddof=1))

    def loss(b: np.ndarray) -> float:
        z = b[0] + b[1] * x
        return float(np.sum(np.logaddexp(0, z) - outcomes * z) + np.logaddexp(0, b[1]) - b[1] / 2)

    best = optimize.minimize(loss, np.zeros(2), tol=1e-12).x
    found = length_adjusted_win_rate(outcomes, length, other, rng, draws=200)
    assert found.value == pytest.approx(special.expit(best[0]), abs=1e-5)


def test_a_judge_that_only_likes_length_gives_fifty_percent_once_length_is_controlled():
    rng = np.random.default_rng(7)
    length, other = rng.normal(400, 100, 400), rng.normal(300, 100, 400)
    outcomes = (rng.random(400) < special.expit((length - other) / 60)).astype(float)
    assert win_rate(outcomes).low > 0.6
    assert covered(length_adjusted_win_rate(outcomes, length, other, rng, draws=500), 0.5)


def test_length_that_separates_wins_from_losses_gives_a_finite_answer():
    found = length_adjusted_win_rate([0, 0, 0, 1, 1, 1] * 5, [1, 2, 3, 7, 8, 9] * 5, [5] * 30, np.random.default_rng(0))
    assert found.value == pytest.approx(0.5, abs=0.01)
    assert 0.2 < found.low < 0.45
    assert 0.55 < found.high < 0.8


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
    found = length_adjusted_win_rate(outcomes, length, [0] * len(length), np.random.default_rng(0))
    assert found.value is None
    assert reason in found.method


def test_length_adjusted_win_rate_covers_what_it_says():
    rng = np.random.default_rng(8)
    hits = 0
    for _ in range(300):
        difference = rng.normal(0.4, 1, 60)
        x = np.tanh(difference / difference.std(ddof=1))
        outcomes = (rng.random(60) < special.expit(0.4 + x)).astype(float)
        found = length_adjusted_win_rate(outcomes, difference, np.zeros(60), rng, draws=300)
        hits += covered(found, special.expit(0.4))
    assert 0.93 < hits / 300 < 0.985


# ranking


def test_two_models_of_bradley_terry_are_the_log_odds_of_the_win_rate():
    found = bradley_terry(["dpo"] * 4, ["base"] * 4, [1, 1, 1, 0], "base")["dpo"]
    assert found.value == pytest.approx(math.log(3))
    assert found.n == 4


def test_bradley_terry_of_three_models_solves_its_likelihood_equations():
    first = ["dpo", "dpo", "sft", "sft", "dpo", "dpo", "sft", "dpo"]
    second = ["sft", "sft", "base", "base", "base", "base", "base", "sft"]
    outcomes = [1, 0, 1, 0, 1, 1, 1, 0.5]
    found = bradley_terry(first, second, outcomes, "base")
    strength = {name: interval.value for name, interval in found.items()}
    assert strength["base"] == 0.0
    for model in ("dpo", "sft"):  # points won = points expected
        won = expected = 0.0
        for one, other, outcome in zip(first, second, outcomes, strict=True):
            if model in (one, other):
                sign = 1 if model == one else -1
                won += outcome if sign == 1 else 1 - outcome
                expected += special.expit(sign * (strength[one] - strength[other]))
        assert won == pytest.approx(expected)


def test_a_model_that_never_loses_has_no_strength_and_does_not_spoil_the_others():
    found = bradley_terry(["a", "a", "b", "b"], ["b", "b", "c", "c"], [1, 1, 1, 0], reference="c")
    assert found["a"].value is None
    assert "no chain of wins and of losses" in found["a"].method
    assert found["b"].value == pytest.approx(0.0)


def test_bradley_terry_of_only_ties_has_no_width_and_says_so():
    found = bradley_terry(["a"] * 5, ["b"] * 5, [0.5] * 5, "b")["a"]
    assert (found.value, found.low) == (0.0, None)
    with pytest.raises(ValueError, match="no comparison has 'x'"):
        bradley_terry(["a"], ["b"], [1], "x")
    with pytest.raises(ValueError, match="with itself"):
        bradley_terry(["a"], ["a"], [1], "a")


@pytest.mark.parametrize("n", [30, 100])
def test_bradley_terry_covers_what_it_says_when_a_prompts_verdicts_hang_together(n):
    rng = np.random.default_rng(9)
    first, second = ["dpo", "sft", "dpo"] * n, ["sft", "base", "base"] * n
    clusters = np.repeat(np.arange(n), 3)
    hits, times = np.zeros(2), 500
    for _ in range(times):
        answers = rng.gumbel(size=(n, 3)) + np.array(
            [1.0, 0.6, 0.0]
        )  # dpo, sft, base: one draw each, compared in pairs
        dpo, sft, base = answers.T
        outcomes = np.stack([dpo > sft, sft > base, dpo > base], axis=1).ravel().astype(float)
        found = bradley_terry(first, second, outcomes, "base", clusters)
        hits += [covered(found["dpo"], 1.0), covered(found["sft"], 0.6)]
    assert all(0.93 < share < 0.98 for share in hits / times), hits / times


# power


def test_an_effect_of_half_a_standard_deviation_takes_34_prompts():
    # Cohen 1988: d = 0.5, two-sided 5 %, power 80 %, one sample
    assert prompts_needed(0.5, 1.0) == 34
    assert detection_power(34, 0.5, 1.0) >= 0.8 > detection_power(33, 0.5, 1.0)


@pytest.mark.parametrize("n", [2, 3, 10, 30, 805, 20_000])
def test_the_smallest_detectable_difference_takes_just_the_prompts_at_hand(n):
    smallest = smallest_detectable_difference(n, 0.5)
    assert prompts_needed(smallest * (1 + 1e-9), 0.5) == n
    assert detection_power(n, smallest, 0.5) == pytest.approx(0.8)


def test_thirty_prompts_cannot_tell_sixty_two_percent_from_luck():
    smallest = smallest_detectable_difference(30, win_rate_sd())
    assert smallest == pytest.approx(0.2646, abs=1e-4)
    assert prompts_needed(0.12, win_rate_sd()) > 130


def test_where_nothing_can_be_said_about_power_it_is_none():
    assert smallest_detectable_difference(1, 1.0) is None
    assert smallest_detectable_difference(30, 0.0) is None
    assert prompts_needed(0.0, 1.0) is None
    assert prompts_needed(0.1, 0.0) is None
    assert prompts_needed(1e-9, 1.0) is None
    with pytest.raises(ValueError, match="power"):
        prompts_needed(0.1, 1.0, power=0.01)


def test_the_promised_power_is_what_simulation_finds():
    rng = np.random.default_rng(10)
    smallest = smallest_detectable_difference(30, 1.0)
    seen = sum(not covered(mean_interval(rng.normal(smallest, 1, 30)), 0.0) for _ in range(2000))
    assert seen / 2000 == pytest.approx(0.8, abs=0.025)


def test_ties_make_a_win_rate_less_noisy():
    assert win_rate_sd() == 0.5
    assert win_rate_sd(ties=0.75) == 0.25


def test_a_model_that_all_clusters_agree_on_has_no_interval_and_no_nan():
    """The sandwich's variance is 0 here and comes out as -1e-17."""
    first, second = ["a", "a", "b"] * 2, ["b", "c", "c"] * 2
    found = bradley_terry(first, second, [0.5, 0.7, 0.3, 0.5, 0.5, 0.7], "a", list("000111"))
    assert (found["c"].low, found["c"].high) == (None, None)
    assert found["b"].low is not None
