"""The targets that an answer must reach: the project's own, or the gate's."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.config.decide import DecideSection, Target
from fairlead.config.project import Config
from fairlead.config.release import Criterion
from fairlead.decide.metric_range import JUDGE_SCORE, range_of
from fairlead.errors import ConfigError, some


def targets_of(section: DecideSection, criteria: Sequence[Criterion] | None, metrics: Sequence[str]) -> list[Target]:
    """`decide.targets`, or, if not set, the gate's lower bounds on `table.<metric>.dpo`.

    The rows of `eval.criteria` are no metrics here: candidates are not scored by them, so the gate's bounds on them are
    not targets.

    Raises:
        ConfigError: if there are none, one names an unknown metric, or no number of prompts could show that it is met.
    """
    targets = _of_gate(criteria or [], (*metrics, JUDGE_SCORE)) if section.targets is None else section.targets
    where = "gate.criteria" if section.targets is None else "decide.targets"
    if not targets:
        raise ConfigError(
            f"there is no target to measure against, and {_known(metrics)}",
            where="decide.targets",
            remedy="write when an answer is good enough, as in targets: [{metric: NAME, at_least: 0.9}] with NAME a "
            "check of eval.metrics or judge_score (1 to 10); or a gate criterion on table.NAME.dpo; or waive: REASON",
        )
    if len({target.metric for target in targets}) < len(targets):
        raise ConfigError("two targets are on one metric", where=where, remedy="keep the higher of them")
    for target in targets:
        _check(target, metrics, where)
    return list(targets)


def asks_for_scores(config: Config) -> bool:
    """Whether the decision asks the judge, because a target is on its score; raises as `targets_of` does."""
    return any(target.metric == JUDGE_SCORE for target in targets_of_project(config))


def targets_of_project(config: Config) -> list[Target]:
    """The targets of a project; raises as `targets_of` does."""
    return targets_of(config.decide, config.gate.criteria, [metric.name for metric in config.eval.metrics])


def _known(metrics: Sequence[str]) -> str:
    return f"eval.metrics has {some(metrics)}" if metrics else "eval.metrics has no check either"


def _check(target: Target, metrics: Sequence[str], where: str) -> None:
    if target.metric not in (*metrics, JUDGE_SCORE):
        known = ", ".join([*metrics, JUDGE_SCORE])
        raise ConfigError(f"there is no metric {target.metric}", where=where, remedy=f"there are: {known}")
    low, high = range_of(target.metric)
    if not low < target.at_least < high:
        raise ConfigError(
            f"no number of prompts can show that {target.metric} is at least {target.at_least:g}",
            where=where,
            remedy=f"set decide.targets with a number between {low:g} and {high:g}",
        )


def _of_gate(criteria: Sequence[Criterion], metrics: Sequence[str]) -> list[Target]:
    """The highest lower bound on the trained model's mean of each of the metrics."""
    highest: dict[str, float] = {}
    for criterion in criteria:
        figure = criterion.figure
        metric = figure.removeprefix("table.").removesuffix(".dpo")
        bounds = [bound for bound in (criterion.above, criterion.at_least) if bound is not None]
        if figure == f"table.{metric}.dpo" and bounds and metric in metrics:
            highest[metric] = max([*bounds, *([highest[metric]] if metric in highest else [])])
    return [Target(metric=metric, at_least=bound) for metric, bound in highest.items()]
