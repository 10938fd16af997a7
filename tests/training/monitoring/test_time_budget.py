"""What fits into the share of time that monitoring may take."""

from __future__ import annotations

from fairlead.training.monitoring.time_budget import Clock, ValidationPlan, allowance, check_is_due, prompts_affordable


def test_what_is_planned_with_stays_below_the_share_of_all_time() -> None:
    planned = allowance(9.0, 0.1)
    assert 0.8 < planned < 1.0
    assert Clock(training=9.0, monitoring=planned).share < 0.1


def test_validation_before_the_end_sees_as_many_pairs_as_fit_beside_a_last_pass_over_all() -> None:
    assert ValidationPlan(100, 0.01, allowed=20, spent=0).pairs_of_pass(3) == 100
    tight = ValidationPlan(100, 0.01, allowed=4, spent=0)
    assert (tight.last, tight.pairs_of_pass(3)) == (1.0, 33)
    assert tight.passes(33) == 3
    assert ValidationPlan(100, 0.01, allowed=2.4, spent=0).pairs_of_pass(3) == 16
    assert ValidationPlan(100, 0.01, allowed=2.4, spent=0).passes(16) == 1
    assert ValidationPlan(100, 0.01, allowed=2.1, spent=0).pairs_of_pass(3) == 0
    assert ValidationPlan(100, 0.01, allowed=1.0, spent=0).last == 0.0
    assert ValidationPlan(5, 0.01, allowed=1.0, spent=0).pairs_of_pass(3) == 5


def test_prompts_are_as_many_as_three_checks_allow_and_at_least_four() -> None:
    assert prompts_affordable(32, draw=0.1, left=1.0) == 32
    assert 4 < prompts_affordable(32, draw=1.0, left=1.0) < 32
    assert prompts_affordable(32, draw=20.0, left=1.0) == 0


def test_sample_checks_are_spread_and_one_is_kept_for_the_end() -> None:
    """Ten validations, three checks affordable: not all at the beginning, and the last one is taken."""
    checks, taken = 0, []
    for number in range(1, 11):
        if check_is_due(checks, 3 - checks, number / 10, last=number == 10):
            checks += 1
            taken.append(number)
    assert len(taken) == 3
    assert taken[-1] == 10
    assert taken[1] > 3
    assert not check_is_due(0, 0.5, 1.0, last=True)
