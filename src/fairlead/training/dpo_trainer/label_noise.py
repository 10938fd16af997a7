"""The error of a judge's labels as error and weight of each training pair, which the loss reads (`loss.dpo_loss`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from scipy import optimize

from fairlead.documents.training import LabelNoiseFigures
from fairlead.training.dpo_trainer.label_error import MAX_ERROR, LabelError

ERROR, WEIGHT = "pair_error", "pair_weight"
"""Columns of the training pairs."""


def pair_errors(measured: LabelError, margins: Sequence[float | None]) -> list[float]:
    """ε of each pair: σ(−(a + slope · z)), z its standardised margin, a such that the mean is the measured error.

    A pair without a margin has the measured error. None lies above `MAX_ERROR`.
    """
    known = np.array([m for m in margins if m is not None], dtype=np.float64)
    error = min(measured.error, MAX_ERROR)
    if measured.slope == 0 or len(known) < 2 or float(known.std()) == 0 or error == 0:
        return [error] * len(margins)
    mean, spread = float(known.mean()), float(known.std())
    z = measured.slope * (known - mean) / spread

    def excess(a: float) -> float:
        return float(np.minimum(MAX_ERROR, 1 / (1 + np.exp(a + z))).mean()) - error

    a = float(optimize.brentq(excess, -50.0, 50.0))
    return [
        error if m is None else min(MAX_ERROR, 1 / (1 + math.exp(min(500.0, a + measured.slope * (m - mean) / spread))))
        for m in margins
    ]


def pair_weights(errors: Sequence[float]) -> list[float]:
    """(1 − 2ε)² of each pair, scaled to a mean of 1.

    An estimate of the clean gradient from a pair has a variance of 1 / (1 − 2ε)², so these are the weights of inverse
    variance: with equal errors all are 1.
    """
    raw = [(1 - 2 * error) ** 2 for error in errors]
    mean = sum(raw) / len(raw)
    return [value / mean for value in raw]


def with_noise(dataset: Dataset, errors: Sequence[float], weights: Sequence[float]) -> Dataset:
    """The pairs with the columns `pair_error` and `pair_weight`."""
    return dataset.add_column(ERROR, list(errors)).add_column(WEIGHT, list(weights))


def apply_label_noise(trainer: Any, measured: LabelError, margins: Sequence[float | None]) -> LabelNoiseFigures:
    """Gives a trainer's training pairs the errors and weights that follow from the judge's label error.

    Args:
        trainer: a `MonitoredDPOTrainer` before its first step.
        margins: the judge's margin of every pair that the trainer was given, those that it dropped included.
    """
    dropped = set(trainer.dropped.get("train", ()))
    errors = pair_errors(measured, [margin for row, margin in enumerate(margins) if row not in dropped])
    weights = pair_weights(errors)
    trainer.train_dataset = with_noise(trainer.train_dataset, errors, weights)
    return LabelNoiseFigures(
        label_error=sum(errors) / len(errors),
        label_error_low=min(errors),
        label_error_high=max(errors),
        effective_pairs=sum(weights) ** 2 / sum(w * w for w in weights) / len(weights),
        label_error_source=measured.source,
    )
