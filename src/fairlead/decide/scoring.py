"""Answers against targets: intervals of the project's own metrics, and what they show. Pure functions on arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from fairlead.decide.settings import Target
from fairlead.evaluation import statistics
from fairlead.evaluation.statistics import Interval

JUDGE_SCORE = "judge_score"
JUDGE_RANGE = (1.0, 10.0)

Status = Literal["meets", "misses", "open"]
Values = Sequence[float | None]

LEVEL = 0.95
_SMALLEST_GAP = 0.02  # of a metric's range; nobody decides on less, and showing it would take thousands of prompts


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one candidate.

    Attributes:
        target: what it must reach; None for a metric without a target.
        status: meets and misses are shown by the interval; open is neither. None without a target.
        interval: of the mean, at 95 %.
        needed: prompts that would show on which side of the target the mean lies; None where it is shown already.
        missing: prompts without a value.
    """

    metric: str
    target: float | None
    status: Status | None
    interval: Interval
    needed: int | None
    missing: int

    @property
    def margin(self) -> float | None:
        """Mean minus target, in shares of the metric's range."""
        if self.target is None or self.interval.value is None:
            return None
        low, high = range_of(self.metric)
        return (self.interval.value - self.target) / (high - low)


def range_of(metric: str) -> tuple[float, float]:
    return JUDGE_RANGE if metric == JUDGE_SCORE else (0.0, 1.0)


def figures_of(
    values: Mapping[str, Values], clusters: Sequence[str], targets: Sequence[Target], *, candidates: int
) -> list[Figure]:
    """Every metric with its interval, and what it shows about its target.

    Args:
        values: by metric, one value per prompt.
        candidates: how many are compared. The best of many looks better than it is, so that a metric meets its target
            only if the interval at the level 1 - 0.05 / candidates does (Bonferroni). That all of them miss needs no
            such correction (an intersection-union test, Berger 1982).
    """
    wanted = {target.metric: target.at_least for target in targets}
    return [
        _figure(metric, found, clusters, wanted.get(metric), 1 - (1 - LEVEL) / max(1, candidates))
        for metric, found in values.items()
    ]


def _figure(metric: str, values: Values, clusters: Sequence[str], target: float | None, strict: float) -> Figure:
    present = [(v, c) for v, c in zip(values, clusters, strict=True) if v is not None]
    x, groups = [v for v, _ in present], [c for _, c in present]
    interval = interval_of(metric, x, groups, LEVEL)
    missing = len(values) - len(x)
    if target is None:
        return Figure(metric, None, None, interval, None, missing)
    status = _status(interval, interval_of(metric, x, groups, strict), target)
    needed = prompts_to_settle(metric, x, target, strict) if status == "open" and x else None
    return Figure(metric, target, status, interval, needed, missing)


def interval_of(metric: str, values: Sequence[float], clusters: Sequence[str], level: float) -> Interval:
    """The mean's interval; a judge's scores bunch far from their ends, so they get the t interval where it exists."""
    if metric == JUDGE_SCORE:
        interval = statistics.mean_interval(values, clusters, level)
        if interval.low is not None or not values:
            return interval
    return statistics.bounded_mean_interval(values, *range_of(metric), clusters, level)


def _status(interval: Interval, strict: Interval, target: float) -> Status:
    if strict.low is not None and strict.low >= target:
        return "meets"
    if interval.high is not None and interval.high < target:
        return "misses"
    return "open"


def prompts_to_settle(metric: str, values: Sequence[float], target: float, level: float) -> int | None:
    """Prompts that show with a chance of 80 % on which side of the target the mean lies, if it lies where it seems to.

    The spread is that of the values, and at least that of a yes or no whose mean is the target: a few equal values
    know nothing of their spread. A gap below 2 % of the range counts as 2 %.
    """
    low, high = range_of(metric)
    x = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    aim = min(max((target - low) / (high - low), 0.0), 1.0)
    spread = max(float(x.std(ddof=1)) if len(x) > 1 else 0.0, math.sqrt(aim * (1 - aim)))
    gap = max(abs(float(x.mean()) - aim), _SMALLEST_GAP)
    return statistics.prompts_needed(gap, spread, level)


def status_of(figures: Sequence[Figure]) -> Status:
    """Meets all targets, misses one, or neither is shown."""
    found = [figure.status for figure in figures if figure.status is not None]
    if "misses" in found:
        return "misses"
    return "meets" if found and all(status == "meets" for status in found) else "open"


def margin_of(figures: Sequence[Figure]) -> float | None:
    """The worst margin over the targets: what a candidate is short of, or has to spare."""
    margins = [m for figure in figures if figure.target is not None and (m := figure.margin) is not None]
    return min(margins) if margins else None


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of those present; None if there are none."""
    present = [value for value in values if value is not None]
    return fmean(present) if present else None
