"""The gate: passed, failed, or not enough evidence, and why."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.config import Criterion
from fairlead.errors import ConfigError
from fairlead.release.gate import judge_criterion, overall


def figures(**pair: Any) -> dict[str, Any]:
    found = {"win_rate": 0.6, "low": 0.55, "high": 0.65, "n": 300, **pair}
    row = {"dpo": 0.8, "delta": 0.1, "delta_low": 0.05, "delta_high": 0.15, "n": 300}
    return {"pairwise": {"dpo_vs_sft": found}, "table": {"match": row}, "prompts": 300, "leaks": 0, "missing": 0.0}


def status(criterion: dict[str, Any], found: dict[str, Any], min_prompts: int = 50) -> tuple[str, str]:
    result = judge_criterion(Criterion.model_validate(criterion), found, min_prompts=min_prompts)
    return result["status"], result["reason"]


LOW = {"figure": "pairwise.dpo_vs_sft.low", "above": 0.5}


def test_a_bound_that_holds_passes() -> None:
    assert status(LOW, figures())[0] == "passed"
    assert status({"figure": "table.match.dpo", "at_least": 0.8}, figures())[0] == "passed"
    assert status({"figure": "leaks", "at_most": 0}, figures())[0] == "passed"


def test_a_bound_that_does_not_hold_fails() -> None:
    assert status({"figure": "table.match.dpo", "at_least": 0.999}, figures())[0] == "failed"
    assert status(LOW, figures(win_rate=0.45, low=0.4, high=0.5))[0] == "failed"


def test_an_estimate_above_the_bound_with_an_interval_across_it_needs_more_prompts() -> None:
    found, reason = status(LOW, figures(win_rate=0.53, low=0.48, high=0.58))
    assert found == "insufficient"
    assert "prompts would show it" in reason


def test_few_prompts_are_never_enough() -> None:
    assert status(LOW, {**figures(), "prompts": 12})[0] == "insufficient"


def test_an_undefined_figure_is_not_a_pass() -> None:
    assert status(LOW, figures(low=None, high=None))[0] == "insufficient"


def test_an_unknown_figure_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"pairwise\.dpo_vs_sftt.*dpo_vs_sft"):
        status({"figure": "pairwise.dpo_vs_sftt.low", "above": 0.5}, figures())


def test_one_failure_outweighs_all() -> None:
    assert overall(["passed", "insufficient", "failed"]) == "failed"
    assert overall(["passed", "insufficient"]) == "insufficient"
    assert overall(["passed", "passed"]) == "passed"
