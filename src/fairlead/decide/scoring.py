"""Compares answers with targets: intervals of the project's metrics, and which side of a target they lie on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from fairlead.checks import Check, build_check
from fairlead.config.checks import CheckSettings, JsonSchemaCheck, RegexCheck
from fairlead.config.decide import Target
from fairlead.config.judges import JudgeSettings
from fairlead.decide.answerers import Reply
from fairlead.decide.candidates import Recipe
from fairlead.decide.instruction_optimizer import Failure
from fairlead.decide.metric_range import JUDGE_SCORE, range_of
from fairlead.decide.runner import CandidateResult
from fairlead.documents.decision import Family, Status
from fairlead.errors import ConfigError
from fairlead.judges.build import open_judge
from fairlead.records import Answer, Interval, Prompt, ScoreState
from fairlead.statistics.intervals import bounded_mean_interval, mean_interval
from fairlead.statistics.power import prompts_needed

Values = Sequence[float | None]

LEVEL = 0.95
_SMALLEST_GAP = 0.02  # of a metric's range; a smaller gap rarely matters, and would take thousands of prompts to show


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one candidate.

    Attributes:
        target: what it must reach; None for a metric without a target.
        status: meets or misses where the interval shows it, else open. None without a target.
        interval: of the mean, at 95 %.
        needed: prompts that would show on which side of the target the mean lies; None where that is shown.
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


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of an answer on average, seconds and cost of a thousand.

    Attributes:
        seconds: of 1,000 answers: computing time in batches on this machine, or the sum of an endpoint's latencies.
        cost: of 1,000 answers, in the currency of the prices; None without prices.
    """

    input_tokens: float | None
    output_tokens: float | None
    seconds: float | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One recipe measured on one model.

    Attributes:
        shots, passages: the mean number that fitted into the context.
        malformed: share of answers that fail a format check; None without such a check.
        recall: share of prompts whose gold passage was retrieved; None where no prompt names one.
        cut: share of answers that the token limit ended.
    """

    name: str
    model: str
    family: Family
    figures: tuple[Figure, ...]
    usage: Usage
    malformed: Interval | None = None
    recall: Interval | None = None
    shots: float = 0.0
    passages: float = 0.0
    cut: float = 0.0

    @property
    def status(self) -> Status:
        return status_of(self.figures)

    @property
    def margin(self) -> float:
        """Worst margin over the targets; minus infinity where none is known."""
        margin = margin_of(self.figures)
        return float("-inf") if margin is None else margin

    @property
    def shortfall(self) -> float:
        """How far the means lie below their targets, summed over all of them, in shares of the metrics' ranges.

        An undefined mean counts as a whole range.
        """
        margins = [figure.margin for figure in self.figures if figure.target is not None]
        return round(sum(1.0 if margin is None else max(0.0, -margin) for margin in margins), 9)

    @property
    def label(self) -> str:
        return f"{self.name}, {self.model}"


def figures_of(
    values: Mapping[str, Values], clusters: Sequence[str], targets: Sequence[Target], *, candidates: int
) -> list[Figure]:
    """Every metric with its interval, compared with its target.

    Args:
        values: by metric, one value per prompt.
        candidates: how many are compared. The best of many looks better than it is, so that a metric meets its target
            only if the interval at the level 1 - 0.05 / candidates does (Bonferroni). That all of them miss needs no
            such correction (an intersection-union test, Berger 1982).
    """
    bounds = {target.metric: target.at_least for target in targets}
    return [
        _figure(metric, column, clusters, bounds.get(metric), 1 - (1 - LEVEL) / max(1, candidates))
        for metric, column in values.items()
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
    """The mean's interval; a judge's scores lie far from the ends of their range, so they get the t interval."""
    if metric == JUDGE_SCORE:
        interval = mean_interval(values, clusters, level)
        if interval.low is not None or not values:
            return interval
    return bounded_mean_interval(values, *range_of(metric), clusters, level)


def _status(interval: Interval, strict: Interval, target: float) -> Status:
    if strict.low is not None and strict.low >= target:
        return "meets"
    if interval.high is not None and interval.high < target:
        return "misses"
    return "open"


def prompts_to_settle(metric: str, values: Sequence[float], target: float, level: float) -> int | None:
    """Prompts that show with 80 % power on which side of the target the mean lies, assuming the observed mean.

    The spread is that of the values, but at least that of a yes/no outcome whose mean is the target, because a few
    equal values say nothing about the spread. A gap below 2 % of the range counts as 2 %.
    """
    low, high = range_of(metric)
    x = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    aim = min(max((target - low) / (high - low), 0.0), 1.0)
    spread = max(float(x.std(ddof=1)) if len(x) > 1 else 0.0, math.sqrt(aim * (1 - aim)))
    gap = max(abs(float(x.mean()) - aim), _SMALLEST_GAP)
    return prompts_needed(gap, spread, level)


def status_of(figures: Sequence[Figure]) -> Status:
    """Meets if all targets are met, misses if one is missed, else open."""
    statuses = [figure.status for figure in figures if figure.status is not None]
    if "misses" in statuses:
        return "misses"
    return "meets" if statuses and all(status == "meets" for status in statuses) else "open"


def margin_of(figures: Sequence[Figure]) -> float | None:
    """The worst margin over the targets; negative if the mean is short of one."""
    margins = [m for figure in figures if figure.target is not None and (m := figure.margin) is not None]
    return min(margins) if margins else None


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of those present; None if there are none."""
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


Table = dict[str, list[float | None]]  # by metric, one value per prompt; None where undefined or missing


class Scorer:
    """The metrics, the targets, and the judge where a target is on its score.

    Attributes:
        unanswered: for how many scores the judge sent no reply.

    Raises:
        ConfigError: if a target is on the judge's score and there is no judge, or a check's file is missing.
    """

    def __init__(
        self, metrics: Sequence[CheckSettings], targets: Sequence[Target], judge: JudgeSettings | None, folder: Path
    ) -> None:
        self.checks: dict[str, Check] = {m.name: build_check(m, folder) for m in metrics}
        self.targets = targets
        self._formats = [m.name for m in metrics if isinstance(m, RegexCheck | JsonSchemaCheck)]
        self.unanswered = 0
        self._tables: dict[tuple[Recipe, str, tuple[str, ...]], Table] = {}
        self._judge: JudgeSettings | None = None
        self._folder = folder
        if any(target.metric == JUDGE_SCORE for target in targets):
            if judge is None:
                raise ConfigError(
                    f"a target is on {JUDGE_SCORE} and there is no judge", where="decide.targets", remedy="set judge"
                )
            self._judge = judge

    def values(self, result: CandidateResult, prompts: Sequence[Prompt]) -> Table:
        """Every metric of every answer; a judge is asked once, however often they are wanted."""
        key = (result.recipe, result.model, tuple(prompt.id for prompt in prompts))
        if key not in self._tables:
            self._tables[key] = self._table(result, prompts)
        return self._tables[key]

    def _table(self, result: CandidateResult, prompts: Sequence[Prompt]) -> Table:
        table: Table = {
            name: [
                None if reply.text is None else check(reply.text, prompt.gold)
                for prompt, reply in zip(prompts, result.replies, strict=True)
            ]
            for name, check in self.checks.items()
        }
        if self._judge is not None:
            table[JUDGE_SCORE] = self._scores(self._judge, result, prompts)
        return table

    def _scores(
        self, settings: JudgeSettings, result: CandidateResult, prompts: Sequence[Prompt]
    ) -> list[float | None]:
        items = [Answer(p, r.text) for p, r in zip(prompts, result.replies, strict=True) if r.text is not None]
        with open_judge(settings, self._folder) as judge:
            scores = list(judge.score(items))
        self.unanswered += sum(score.state is ScoreState.FAILED for score in scores)
        values = iter([score.value for score in scores])
        return [None if reply.text is None else next(values) for reply in result.replies]

    def candidate(
        self, result: CandidateResult, values: Mapping[str, Values], prompts: Sequence[Prompt], *, candidates: int = 1
    ) -> Candidate:
        """The figures of a result.

        Args:
            candidates: how many it is compared with, itself included.
        """
        clusters = [prompt.cluster or prompt.id for prompt in prompts]
        recipe, n = result.recipe, len(result.replies)
        return Candidate(
            name=recipe.name,
            model=result.model,
            family=recipe.family,
            figures=tuple(figures_of(values, clusters, self.targets, candidates=candidates)),
            usage=usage_of(result.replies),
            malformed=self._malformed(values, clusters),
            recall=_share(result.recall, clusters),
            shots=sum(result.shots) / n,
            passages=sum(result.passages) / n,
            cut=sum(reply.cut for reply in result.replies) / n,
        )

    def _malformed(self, values: Mapping[str, Values], clusters: Sequence[str]) -> Interval | None:
        """The share of answers that fail a format check (regex, json_schema)."""
        if not self._formats:
            return None
        per_answer = zip(*(values[name] for name in self._formats), strict=True)
        return _share([None if None in checks else float(0.0 in checks) for checks in per_answer], clusters)

    def failures(
        self, result: CandidateResult, values: Mapping[str, Values], prompts: Sequence[Prompt]
    ) -> list[Failure]:
        """The answers below a target, in the order of the prompts."""
        failures: list[Failure] = []
        for number, (prompt, reply) in enumerate(zip(prompts, result.replies, strict=True)):
            failed = tuple(
                target.metric
                for target in self.targets
                if (value := values[target.metric][number]) is not None and value < target.at_least
            )
            if failed and reply.text is not None:
                failures.append(Failure(prompt, reply.text, failed))
        return failures


def usage_of(replies: Sequence[Reply]) -> Usage:
    """What a thousand answers took."""
    cost = mean([reply.cost for reply in replies])
    # A missing reply does not say how long an answer takes.
    seconds = mean([reply.seconds for reply in replies if reply.text is not None])
    return Usage(
        input_tokens=mean([reply.input_tokens for reply in replies]),
        output_tokens=mean([reply.output_tokens for reply in replies]),
        seconds=None if seconds is None else 1000 * seconds,
        cost=None if cost is None else 1000 * cost,
    )


def _share(values: Values, clusters: Sequence[str]) -> Interval | None:
    present = [(v, c) for v, c in zip(values, clusters, strict=True) if v is not None]
    if not present:
        return None
    return bounded_mean_interval([v for v, _ in present], 0.0, 1.0, [c for _, c in present])
