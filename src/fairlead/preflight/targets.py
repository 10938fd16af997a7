"""What an answer must reach: without it the decision cannot be made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from fairlead.decide.metric_range import JUDGE_SCORE
from fairlead.decide.targets import asks_for_scores, targets_of_project
from fairlead.errors import ConfigError
from fairlead.preflight.problem import Problem
from fairlead.preflight.scope import Scope


def unusable_targets(scope: Scope) -> Iterator[Problem]:
    """Targets that are absent, or that nothing measures."""
    if not scope.decides:
        return
    try:
        targets = targets_of_project(scope.config)
    except ConfigError as error:
        yield Problem.of("decide.targets", error)
        return
    if any(target.metric == JUDGE_SCORE for target in targets) and scope.config.eval_judge is None:
        yield Problem("decide.targets", f"a target is on {JUDGE_SCORE} and there is no judge", "set judge")


def decision_asks_judge(scope: Scope) -> bool:
    """Whether the decision asks the judge, because a target is on its score."""
    if not scope.decides:
        return False
    with suppress(ConfigError):  # `unusable_targets` says what is wrong with them
        return asks_for_scores(scope.config)
    return False
