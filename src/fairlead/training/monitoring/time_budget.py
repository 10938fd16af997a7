"""How much of a training's time validation and sample checks may take, and what fits into it.

Seconds are seconds of one clock throughout. A *validation pass* computes metrics over validation pairs, a *sample
check* draws and scores answers of the policy. The last pass is over all pairs, because its metrics are the training's
own; those before it may be over fewer, all over the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fairlead.training.measurements import Metric, Metrics, number

PASSES = 3  # validation passes wanted before the last one; more only where they can be over all pairs
CHECKS = 3  # sample checks wanted
FEWEST_PAIRS = 16
FEWEST_SAMPLES = 4
SCORING = 1.5  # a sample check against drawing alone, until a check was timed
FORWARD = 0.5  # a pass against a training step, per pair, until a pass was timed; without a backward it is a third

_MARGIN = 0.9  # of the allowance is planned with, because no projection is exact


@dataclass
class Clock:
    """Seconds spent on training and on monitoring it."""

    training: float = 0.0
    monitoring: float = 0.0

    @property
    def share(self) -> float:
        """Share of all time that monitoring took."""
        total = self.training + self.monitoring
        return self.monitoring / total if total > 0 else 0.0

    def to_metrics(self) -> dict[str, Metric]:
        return {"watch/seconds": round(self.monitoring, 3), "watch/share": round(self.share, 4)}


def allowance(training: float, share: float) -> float:
    """Seconds that may be planned for monitoring, if the training takes `training` and monitoring `share` of all."""
    return _MARGIN * training * share / (1 - share)


@dataclass(frozen=True)
class ValidationPlan:
    """What passes over the validation pairs may take: half of the allowance.

    Attributes:
        pairs: all there are.
        seconds_per_pair: that a pass takes.
        allowed: seconds that monitoring may take in the whole training.
        spent: seconds that passes took so far.
    """

    pairs: int
    seconds_per_pair: float
    allowed: float
    spent: float

    @property
    def last(self) -> float:
        """Seconds kept aside for the pass over all pairs at the end; 0 where it alone would take more than half."""
        seconds = self.pairs * self.seconds_per_pair
        return seconds if seconds <= self.allowed / 2 else 0.0

    @property
    def budget(self) -> float:
        """Seconds for passes before the last."""
        return max(0.0, self.allowed / 2 - self.spent - self.last)

    def pairs_of_pass(self, ahead: int) -> int:
        """Pairs of each of the `ahead` passes before the last one; 0 if none fits."""
        fewest = min(FEWEST_PAIRS, self.pairs)
        affordable = int(self.budget / (self.seconds_per_pair * max(1, min(PASSES, ahead))))
        if affordable >= fewest:
            return min(self.pairs, affordable)
        return fewest if self.budget >= fewest * self.seconds_per_pair else 0

    def passes(self, pairs: int) -> int:
        """How many more passes over so many pairs fit."""
        return int(self.budget / (self.seconds_per_pair * pairs) + 1e-6) if pairs else 0


def prompts_affordable(count: int, draw: float, left: float) -> int:
    """Prompts on which one reference draw and `CHECKS` checks fit into `left` seconds; 0 below `FEWEST_SAMPLES`.

    Args:
        draw: seconds at most of one draw from all `count` prompts. Most answers end sooner, so checks take about half.
    """
    seconds = draw * (1 + CHECKS * SCORING / 2)
    most = count if seconds <= left else int(count * left / seconds)
    return most if most >= FEWEST_SAMPLES else 0


def check_is_due(checks: int, affordable: float, done: float, last: bool) -> bool:
    """Whether to check samples now, if checks are to be spread evenly over the training and one kept for the end.

    Args:
        checks: made so far.
        affordable: further checks that fit into what is left of the allowance.
        done: share of the training's steps that are over.
        last: whether this is the last step.
    """
    if affordable < 1:
        return False
    return last or (affordable >= 2 and checks < math.ceil((checks + affordable) * done))


@dataclass(frozen=True)
class Schedule:
    """What of a training is known before its first step.

    Attributes:
        steps: optimiser steps.
        eval_every: steps between validation passes.
        pairs_per_step: pairs that one step trains on.
        validation_pairs: how many there are.
    """

    steps: int
    eval_every: int
    pairs_per_step: int
    validation_pairs: int

    def passes_ahead(self, step: int) -> int:
        """Passes due before the last step of the training, one at the present step included."""
        return (self.steps - 1) // self.eval_every - (step - 1) // self.eval_every

    def is_last(self, step: int) -> bool:
        return step >= self.steps


class TimeBudget:
    """Times the training, and says which validation passes and sample checks fit into their share of its time.

    Args:
        share: of the training's time that monitoring may take.
        now: the clock, in seconds.
    """

    def __init__(self, share: float, now: Callable[[], float]) -> None:
        self._share, self.now = share, now
        self.clock = Clock()
        self._schedule = Schedule(0, 1, 1, 0)
        self._mark: float | None = None  # up to when time was counted; None outside the training
        self._since = (0.0, 0)  # seconds of training and step from which the pace is taken
        self._first_step: float | None = None  # seconds of this run's first step, which says little of the others
        self._passes, self._pass_seconds = 0, 0.0
        self._slowest_pair: float | None = None  # seconds per pair of the slowest pass
        self._pairs: int | None = None  # of a pass before the last, once that is settled

    @property
    def running(self) -> bool:
        """Whether the training goes on."""
        return self._mark is not None

    def take_up(self, rows: Sequence[Metrics]) -> None:
        """Resumes with the time and the passes of the run that was killed.

        Args:
            rows: of its `metrics.jsonl`, up to the step from which it is resumed.
        """
        timed = [(number(row.get("eval_runtime")), number(row.get("eval_pairs"))) for row in rows]
        passes = [(seconds, int(pairs)) for seconds, pairs in timed if seconds is not None and pairs]
        if passes:
            self._passes, self._pairs = len(passes), passes[0][1]
            self._pass_seconds = sum(seconds for seconds, _ in passes)
            self._slowest_pair = max(seconds / pairs for seconds, pairs in passes)
        spent = [row for row in rows if "watch/seconds" in row]
        share = number(spent[-1].get("watch/share")) if spent else None
        if share:
            self.clock.monitoring = number(spent[-1].get("watch/seconds")) or 0.0
            self.clock.training = self.clock.monitoring * (1 / share - 1)

    def begin(self, schedule: Schedule, step: int) -> None:
        """Starts the clock before the first step of this run."""
        self._schedule = schedule
        self._since = (self.clock.training, step)
        self._mark = self.now()

    def end(self) -> None:
        self.tick()
        self._mark = None

    def tick(self) -> None:
        """Counts the time since the last mark as training."""
        if self._mark is not None:
            now = self.now()
            self.clock.training += now - self._mark
            self._mark = now

    def step_ended(self, step: int) -> None:
        self.tick()
        if self._first_step is None:
            self._first_step = self.clock.training - self._since[0]
            self._since = (self.clock.training, step)

    @contextmanager
    def monitoring(self) -> Iterator[None]:
        """Counts what happens inside as monitoring."""
        self.tick()
        started = self.now()
        try:
            yield
        finally:
            self.clock.monitoring += self.now() - started
            self._mark = None if self._mark is None else self.now()

    def pass_ended(self, pairs: int) -> None:
        """Counts the time since the last mark as a validation pass."""
        assert self._mark is not None
        now = self.now()
        seconds, self._mark = now - self._mark, now
        self.clock.monitoring += seconds
        self._slowest_pair = max(self._slowest_pair or 0.0, seconds / pairs)
        self._passes, self._pass_seconds = self._passes + 1, self._pass_seconds + seconds

    def pairs_of_next_pass(self, step: int) -> int:
        """Validation pairs of a pass at this step before the last; 0 where none is due or none fits."""
        plan, ahead = self._plan(step), self._schedule.passes_ahead(step)
        if self._pairs is None:
            self._pairs = plan.pairs_of_pass(ahead)
        affordable = min(ahead, plan.passes(self._pairs))
        due = math.ceil((self._passes + affordable) * step / self._schedule.steps)
        return self._pairs if affordable >= 1 and self._passes < due and self.fits(step, self._pairs) else 0

    def fits(self, step: int, pairs: int) -> bool:
        """Whether a pass over so many pairs fits into what is left."""
        return pairs * self.seconds_per_pair(step) <= self._allowed(step) - self.clock.monitoring

    def left_for_checks(self, step: int) -> float:
        """Seconds of the allowance that are neither spent nor needed for the passes to come."""
        left = self._allowed(step) - self.clock.monitoring
        if not self._schedule.validation_pairs or self._schedule.is_last(step):
            return left
        plan, pairs = self._plan(step), self._pairs or 0
        ahead = min(self._schedule.passes_ahead(step) - 1, plan.passes(pairs))
        return left - plan.last - ahead * pairs * plan.seconds_per_pair

    def check_is_due(self, step: int, checks: int, seconds: float) -> bool:
        """Whether to check samples at this step.

        Args:
            checks: made so far.
            seconds: that a check takes.
        """
        affordable = self.left_for_checks(step) / max(seconds, 1e-6)
        done = min(1.0, step / self._schedule.steps)
        return check_is_due(checks, affordable, done, self._schedule.is_last(step))

    def seconds_per_pair(self, step: int) -> float:
        """Seconds of a validation pair: the slowest that was timed, else projected from the training's own pace."""
        projected = FORWARD * self._pace(step) / self._schedule.pairs_per_step
        return max(1e-9, self._slowest_pair or projected)

    def _pace(self, step: int) -> float:
        """Seconds of a training step."""
        seconds, first = self._since
        done = step - first
        return (self.clock.training - seconds) / done if done else self._first_step or 0.0

    def _allowed(self, step: int) -> float:
        """Seconds that monitoring may take in the whole training, as far as its pace tells."""
        training = self.clock.training + self._pace(step) * (self._schedule.steps - step)
        return allowance(training, self._share)

    def _plan(self, step: int) -> ValidationPlan:
        pairs, seconds = self._schedule.validation_pairs, self.seconds_per_pair(step)
        return ValidationPlan(pairs, seconds, self._allowed(step), self._pass_seconds)
