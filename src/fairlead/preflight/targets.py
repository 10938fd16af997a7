"""What an answer must reach: without it the decision cannot be made."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.decide.metric_range import JUDGE_SCORE
from fairlead.decide.targets import targets_of
from fairlead.errors import ConfigError
from fairlead.preflight.problem import Problem
from fairlead.preflight.scope import Scope


def unusable_targets(scope: Scope) -> Iterator[Problem]:
    """Targets that are absent, or that nothing measures."""
    if not scope.decides:
        return
    config = scope.config
    metrics = [metric.name for metric in config.eval.metrics]
    try:
        targets = targets_of(config.decide, config.gate.criteria, metrics)
    except ConfigError as error:
        yield Problem.of("decide.targets", error)
        return
    if any(target.metric == JUDGE_SCORE for target in targets) and config.eval_judge is None:
        yield Problem("decide.targets", f"a target is on {JUDGE_SCORE} and there is no judge", "set judge")


def asks_for_scores(scope: Scope) -> bool:
    """Whether the decision asks the judge, because a target is on its score."""
    config = scope.config
    if not scope.decides:
        return False
    named = [target.metric for target in config.decide.targets or []]
    figures = [criterion.figure for criterion in config.gate.criteria or []] if config.decide.targets is None else []
    return JUDGE_SCORE in named or f"table.{JUDGE_SCORE}.dpo" in figures
