"""Measurements of a training as typed values.

The keys of `metrics.jsonl` are read and written here. A number that is not finite is None, because what was not
measured is not a value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from fairlead.files import read_text

Metric = float | int | str | None
Metrics = Mapping[str, Metric]

METRICS = "metrics.jsonl"
DIAGNOSIS_KEY = "watch/diagnosis"


def read_metrics(path: Path) -> list[dict[str, Metric]]:
    """The rows of a `metrics.jsonl`; a torn last line, left by a kill, is passed over."""
    if not path.exists():
        return []
    rows = []
    for line in read_text(path).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if isinstance(row, dict):
            rows.append(row)
    return rows


def number(value: object) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Metrics of the batches of one logged step.

    Attributes:
        gap: mean reward gap, β included.
        not_finite: names of the metrics that were logged and are no number.
    """

    step: int
    loss: float | None = None
    grad_norm: float | None = None
    gap: float | None = None
    not_finite: tuple[str, ...] = ()

    @classmethod
    def from_metrics(cls, row: Metrics) -> Self:
        not_finite = tuple(key for key in ("loss", "grad_norm") if key in row and number(row[key]) is None)
        gap = number(row.get("rewards/margins"))
        return cls(step_of(row), number(row.get("loss")), number(row.get("grad_norm")), gap, not_finite)


@dataclass(frozen=True, slots=True)
class ValidationPass:
    """Metrics of one pass over validation pairs.

    Attributes:
        pairs: how many the pass was over; None where it was not logged.
        gap: mean reward gap, β included.
        chosen, rejected: mean rewards, β included.
        confidently_wrong: share of wrongly ranked pairs among the half with the clearest margins.
        full: whether the pass was over all validation pairs.
    """

    step: int
    pairs: int | None = None
    epoch: float | None = None
    loss: float | None = None
    gap: float | None = None
    accuracy: float | None = None
    chosen: float | None = None
    rejected: float | None = None
    confidently_wrong: float | None = None
    full: bool = False

    @classmethod
    def from_metrics(cls, row: Metrics, *, full: bool = False) -> Self:
        pairs = number(row.get("eval_pairs"))
        return cls(
            step=step_of(row),
            pairs=None if pairs is None else int(pairs),
            epoch=number(row.get("epoch")),
            loss=number(row.get("eval_loss")),
            gap=number(row.get("eval_rewards/margins")),
            accuracy=number(row.get("eval_rewards/accuracies")),
            chosen=number(row.get("eval_rewards/chosen")),
            rejected=number(row.get("eval_rewards/rejected")),
            confidently_wrong=number(row.get("eval_rewards/confidently_wrong")),
            full=full,
        )


@dataclass(frozen=True, slots=True)
class SampleStatistics:
    """Length and variety of sampled answers.

    Attributes:
        length: mean tokens; `length_error` its standard error.
        loops: share of answers with a block that repeats back to back.
        cut: share of answers that reached the token limit.
        distinct_1, distinct_2: distinct n-grams over all n-grams.
    """

    length: float | None = None
    length_error: float | None = None
    loops: float | None = None
    cut: float | None = None
    distinct_1: float | None = None
    distinct_2: float | None = None

    @classmethod
    def from_metrics(cls, row: Metrics, prefix: str) -> Self:
        return cls(**{field.name: number(row.get(f"{prefix}{field.name}")) for field in fields(cls)})

    def to_metrics(self, prefix: str) -> dict[str, Metric]:
        return {f"{prefix}{field.name}": getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class KLMetrics:
    """KL from the reference in nats with its standard error, per answer and per token, by `models.kl`."""

    kl: float | None = None
    kl_error: float | None = None
    kl_token: float | None = None
    kl_token_error: float | None = None

    @classmethod
    def from_metrics(cls, row: Metrics) -> Self:
        return cls(**{field.name: number(row.get(f"watch/{field.name}")) for field in fields(cls)})

    def to_metrics(self) -> dict[str, Metric]:
        return {f"watch/{field.name}": getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class SampleCheck:
    """What the policy's own answers to the fixed prompts show at one step.

    Attributes:
        prompts: on how many prompts.
        unchanged: share of answers that are the reference's word for word.
        general_loss: nats per token on the rows of general use; None where there are none.
        prompt, sample: one prompt and its answer, to be read.
    """

    step: int
    prompts: int
    kl: KLMetrics
    statistics: SampleStatistics
    unchanged: float | None = None
    general_loss: float | None = None
    prompt: str = ""
    sample: str = ""

    @classmethod
    def from_metrics(cls, row: Metrics) -> Self:
        return cls(
            step_of(row),
            int(number(row.get("watch/samples")) or 0),
            KLMetrics.from_metrics(row),
            SampleStatistics.from_metrics(row, "watch/"),
            number(row.get("watch/unchanged")),
            number(row.get("watch/general_loss")),
        )

    def to_metrics(self) -> dict[str, Metric]:
        general = {} if self.general_loss is None else {"watch/general_loss": self.general_loss}
        texts = {"watch/prompt": self.prompt, "watch/sample": self.sample}
        return {
            "watch/samples": self.prompts,
            **self.kl.to_metrics(),
            **self.statistics.to_metrics("watch/"),
            "watch/unchanged": self.unchanged,
            **general,
            **texts,
        }


@dataclass(frozen=True, slots=True)
class Measurement:
    """All that was measured at one step; what was not is None."""

    step: int
    validation: ValidationPass | None = None
    samples: SampleCheck | None = None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a training began with, logged once under `run/`; what is not known is None.

    Attributes:
        steps: optimiser steps of the whole training.
        loss_type: names of the losses, with commas between them.
        chosen_tokens, rejected_tokens: mean length of the answers.
        chosen_longer: share of the pairs of unequal length, `unequal_lengths` many, whose chosen answer is the longer.
        label_noise: "measured" where the loss knows each pair's error, else "none".
        reference_nats, reference_nats_rejected: nats per token of chosen and rejected answers under the reference.
        method: "lora" or "full"; `rank` and `dropout` are the adapter's.
        prompt_gain: nats per token that an answer's own prompt is worth against another pair's, under the reference.
    """

    steps: float | None = None
    keep: str | None = None
    beta: float | None = None
    learning_rate: float | None = None
    epochs: float | None = None
    max_grad_norm: float | None = None
    loss_type: str | None = None
    pairs: float | None = None
    validation_pairs: float | None = None
    chosen_tokens: float | None = None
    rejected_tokens: float | None = None
    chosen_longer: float | None = None
    unequal_lengths: float | None = None
    label_noise: str | None = None
    reference_nats: float | None = None
    reference_nats_rejected: float | None = None
    dtype: str | None = None
    method: str | None = None
    rank: float | None = None
    dropout: float | None = None
    prompt_gain: float | None = None
    prompt_gain_error: float | None = None

    @classmethod
    def from_metrics(cls, row: Metrics) -> Self:
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = row.get(f"run/{field.name}")
            text = field.name in ("keep", "loss_type", "label_noise", "dtype", "method")
            values[field.name] = (value if isinstance(value, str) else None) if text else number(value)
        return cls(**values)

    def to_metrics(self) -> dict[str, Metric]:
        """What is known, by its key in the log."""
        values = {f"run/{field.name}": getattr(self, field.name) for field in fields(self)}
        return {key: value for key, value in values.items() if value is not None}


def step_of(row: Metrics) -> int:
    """The step that a row was logged at."""
    return int(number(row.get("step")) or 0)
