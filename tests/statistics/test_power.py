"""Power: published sample sizes, simulation, and where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.statistics.intervals import mean_interval
from fairlead.statistics.power import (
    detection_power,
    plan,
    plan_line,
    prompts_needed,
    smallest_detectable_difference,
    win_rate_sd,
)
from tests.support.intervals import covers


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
    seen = sum(not covers(mean_interval(rng.normal(smallest, 1, 30)), 0.0) for _ in range(2000))
    assert seen / 2000 == pytest.approx(0.8, abs=0.025)


def test_ties_make_a_win_rate_less_noisy():
    assert win_rate_sd() == 0.5
    assert win_rate_sd(ties=0.75) == 0.25


def test_the_plan_is_what_the_power_calculation_says():
    planned = plan([str(n) for n in range(200)])
    assert planned.at_best == planned.at_worst == pytest.approx(0.0995, abs=0.0005)
    assert plan_line(planned) == "200 prompts can show a win rate of 60.0% or more (or 40.0% or less)"
    clustered = plan([str(n // 10) for n in range(200)])
    assert clustered.at_worst > 3 * clustered.at_best
    assert "(20 clusters)" in plan_line(clustered)


def test_five_prompts_can_show_nothing_and_the_plan_says_so():
    assert plan(list("abcde")).at_best is None
    assert "can show no win rate at all" in plan_line(plan(list("abcde")))
    assert plan_line(plan([])).startswith("0 prompts can show no win rate")


def test_no_difference_is_seen_as_often_as_the_test_errs():
    assert detection_power(30, 0.0, 1.0) == pytest.approx(0.05)
