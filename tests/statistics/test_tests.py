"""Tests of a paired comparison: hand-worked numbers, brute force, simulated error rates."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fairlead.statistics.intervals import mean_interval
from fairlead.statistics.tests import holm, permutation_test, sign_test
from tests.support.intervals import covers


def test_sign_test_of_eight_wins_and_two_losses_worked_by_hand():
    outcome = sign_test(8, 2)
    assert outcome.p == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert outcome.n == 10
    assert sign_test(0, 0).p is None


def test_permutation_test_is_exact_at_small_n():
    differences = np.array([1.0, 2.0, -0.5, 3.0, 0.7, 0.0])
    patterns = [np.dot(signs, differences) for signs in itertools.product([1, -1], repeat=6)]
    expected = np.mean(np.abs(patterns) >= abs(differences.sum()) - 1e-12)
    outcome = permutation_test(differences, np.random.default_rng(0))
    assert outcome.p == pytest.approx(expected)
    assert outcome.n == 5


def test_permutation_test_flips_whole_clusters():
    # three clusters with sums 2, 3, -1: of 8 patterns, |sum| >= 4 holds for 4
    outcome = permutation_test([1, 1, 2, 1, -1], np.random.default_rng(0), clusters=list("aabbc"))
    assert (outcome.p, outcome.n) == (0.5, 3)


def test_random_permutations_agree_with_the_normal_limit():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.1, 1, 301)
    limit = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt(np.sum(differences**2)))
    assert permutation_test(differences, rng, draws=40_000).p == pytest.approx(limit, abs=0.015)


def test_the_permutation_test_of_wins_and_losses_is_the_sign_test():
    differences = [1.0] * 70 + [-1.0] * 52 + [0.0] * 40
    outcome = permutation_test(differences, np.random.default_rng(1), draws=40_000)
    assert outcome.p == pytest.approx(sign_test(70, 52).p, abs=0.006)
    assert outcome.n == 122


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
            not covers(difference, 0.0),
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


def test_two_thousand_differences_of_one_sign_are_as_unlikely_as_the_draws_can_tell():
    outcome = permutation_test([1.0] * 2_000, np.random.default_rng(0), draws=200)
    assert (outcome.p, outcome.n, outcome.method) == (1 / 201, 2_000, "permutation test, 200 draws")


def test_one_difference_can_never_be_told_from_chance():
    assert permutation_test([0.0, 3.0], np.random.default_rng(0)).p == 1.0
