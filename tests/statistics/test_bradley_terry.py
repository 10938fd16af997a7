"""Bradley-Terry: the likelihood equations, models without a place on the scale, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from fairlead.statistics.bradley_terry import bradley_terry
from tests.support.intervals import covers


def test_two_models_of_bradley_terry_are_the_log_odds_of_the_win_rate():
    rating = bradley_terry(["dpo"] * 4, ["base"] * 4, [1, 1, 1, 0], "base")["dpo"]
    assert rating.value == pytest.approx(math.log(3))
    assert rating.n == 4


def test_bradley_terry_of_three_models_solves_its_likelihood_equations():
    first = ["dpo", "dpo", "sft", "sft", "dpo", "dpo", "sft", "dpo"]
    second = ["sft", "sft", "base", "base", "base", "base", "base", "sft"]
    outcomes = [1, 0, 1, 0, 1, 1, 1, 0.5]
    rating = bradley_terry(first, second, outcomes, "base")
    strength = {name: interval.value for name, interval in rating.items()}
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
    rating = bradley_terry(["a", "a", "b", "b"], ["b", "b", "c", "c"], [1, 1, 1, 0], reference="c")
    assert rating["a"].value is None
    assert "no chain of wins and of losses" in rating["a"].method
    assert rating["b"].value == pytest.approx(0.0)


def test_bradley_terry_of_only_ties_has_no_width_and_says_so():
    rating = bradley_terry(["a"] * 5, ["b"] * 5, [0.5] * 5, "b")["a"]
    assert (rating.value, rating.low) == (0.0, None)
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
        rating = bradley_terry(first, second, outcomes, "base", clusters)
        hits += [covers(rating["dpo"], 1.0), covers(rating["sft"], 0.6)]
    assert all(0.93 < share < 0.98 for share in hits / times), hits / times


def test_a_model_that_all_clusters_agree_on_has_no_interval_and_no_nan():
    """The sandwich's variance is 0 here and comes out as -1e-17."""
    first, second = ["a", "a", "b"] * 2, ["b", "c", "c"] * 2
    rating = bradley_terry(first, second, [0.5, 0.7, 0.3, 0.5, 0.5, 0.7], "a", list("000111"))
    assert (rating["c"].low, rating["c"].high) == (None, None)
    assert rating["b"].low is not None
