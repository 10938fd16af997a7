"""The rows of a `metrics.jsonl` as the curves of one training, and what several rules ask of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fairlead.training.measurements import (
    Metric,
    Metrics,
    RunFacts,
    SampleCheck,
    SampleStatistics,
    TrainingStep,
    ValidationPass,
    number,
)

_Value = TypeVar("_Value", TrainingStep, ValidationPass, SampleCheck)


@dataclass(frozen=True)
class Curves:
    """One training of DPO.

    Attributes:
        facts: what the training began with.
        train: logged training steps in order; of a step that was logged twice the later.
        validation: validation passes.
        checks: checks of the policy's samples.
        reference: length and variety of the reference's samples before the training.
        general_loss_start: loss on the rows of general use before the training.
    """

    facts: RunFacts
    train: tuple[TrainingStep, ...]
    validation: tuple[ValidationPass, ...]
    checks: tuple[SampleCheck, ...]
    reference: SampleStatistics
    general_loss_start: float | None

    @classmethod
    def from_metrics(cls, rows: Sequence[Metrics]) -> Curves:
        """Sorts the rows of a log by what they hold; other rows are passed over."""
        rows = [row for row in rows if number(row.get("step")) is not None]
        before: dict[str, Metric] = {}  # of the training; each metric stands in one row
        for row in rows:
            before |= {key: value for key, value in row.items() if key.startswith(("run/", "watch/reference_"))}
            before |= {key: value for key, value in row.items() if key == "watch/general_loss_start"}
        return cls(
            RunFacts.from_metrics(before),
            _by_step(TrainingStep.from_metrics(row) for row in rows if "loss" in row),
            _by_step(ValidationPass.from_metrics(row) for row in rows if "eval_loss" in row),
            _by_step(SampleCheck.from_metrics(row) for row in rows if "watch/kl" in row),
            SampleStatistics.from_metrics(before, "watch/reference_"),
            number(before.get("watch/general_loss_start")),
        )

    @property
    def comparable_passes(self) -> tuple[ValidationPass, ...]:
        """Validation passes over as many pairs as the first one, which may not be all; others are no trend with it."""
        return tuple(result for result in self.validation if result.pairs == self.validation[0].pairs)

    @property
    def step(self) -> int:
        """The last step of which anything is known."""
        return max((rows[-1].step for rows in (self.train, self.validation, self.checks) if rows), default=0)

    @property
    def done(self) -> float | None:
        """Share of the training that is over; None where its length is not known."""
        return min(1.0, self.step / self.facts.steps) if self.facts.steps else None

    @property
    def losses(self) -> list[float]:
        """Known training losses, in order."""
        return known(step.loss for step in self.train)

    @property
    def gaps(self) -> list[float]:
        """Known reward gaps of training steps, in order."""
        return known(step.gap for step in self.train)

    @property
    def recent_loss(self) -> float | None:
        return recent(self.losses)

    @property
    def recent_gap(self) -> float | None:
        return recent(self.gaps)

    @property
    def last_kl(self) -> float | None:
        """Newest KL from the reference in nats per answer."""
        return last(check.kl.kl for check in self.checks)

    @property
    def last_validation_gap(self) -> float | None:
        """Newest reward gap on validation pairs, β included."""
        return last(result.gap for result in self.validation)

    @property
    def ranked_pairs(self) -> float | None:
        """Pairs of the newest validation pass."""
        return last(result.pairs for result in self.validation) or self.facts.validation_pairs

    @property
    def log_ratio_gap(self) -> float | None:
        """Nats between the log-ratios of chosen and rejected, on validation pairs if there are any."""
        return self.nats(self.validation[-1].gap if self.validation else self.recent_gap)

    @property
    def gradient_weight(self) -> float:
        """σ(−u) at the mean margin u of validation pairs, or of recent training pairs.

        The `gradient_weight` of `dpo_trainer.loss`, without torch, which takes seconds to import.
        """
        margin = self.last_validation_gap or self.recent_gap or 0.0
        return 0.5 * (1.0 - math.tanh(margin / 2))  # does not overflow, as exp would

    def nats(self, reward: float | None) -> float | None:
        """A reward, or a gap of rewards, as a log-ratio: β divided out."""
        return None if reward is None or not self.facts.beta else reward / self.facts.beta


def known(values: Iterable[float | None]) -> list[float]:
    """The values that are not None, in order."""
    return [value for value in values if value is not None]


def last(values: Iterable[float | None]) -> float | None:
    """The newest known value."""
    return next(reversed(known(values)), None)


def recent(values: Sequence[float], share: float = 0.25) -> float | None:
    """Mean over the last part; a single batch says little."""
    last_values = values[-max(1, round(share * len(values))) :]
    return sum(last_values) / len(last_values) if last_values else None


def _by_step(values: Iterable[_Value]) -> tuple[_Value, ...]:
    newest = {value.step: value for value in values}
    return tuple(newest[step] for step in sorted(newest))
