"""`training.json`, the result of a DPO training, and `origin.json`, where a model that was not trained here is from."""

from __future__ import annotations

from typing import Literal

from fairlead.documents.base import Document
from fairlead.documents.diagnosis import FailureMode
from fairlead.records import Interval


class MonitoringOutcome(Document):
    """How the monitor changed a training.

    Attributes:
        stopped_on: the failure mode that ended it early.
        kept_step: the step whose weights were kept; None where those of the last step were.
        kept_gap, kept_kl: validation gap, and nats per answer from the reference, at that step.
    """

    stopped_on: FailureMode | None
    kept_step: int | None
    kept_gap: float | None
    kept_kl: float | None


class SftFigures(Document):
    """What the `sft` stage measures.

    Attributes:
        train, validation: rows that were used.
        train_loss: of the last step that was logged.
    """

    train: int
    validation: int
    steps: int
    train_loss: float | None
    validation_loss: float | None
    validation_token_accuracy: float | None


class DpoFigures(MonitoringOutcome):
    """What the `dpo` stage measures.

    Attributes:
        train, validation: pairs that were used.
        dropped: training pairs that truncation left nothing of.
        reference: content hash of the model that DPO started from.
        train_loss, reward_gap, accuracy: of the last step that was logged.
    """

    train: int
    validation: int
    dropped: int
    steps: int
    beta: float
    reference: str
    train_loss: float | None
    reward_gap: float | None
    accuracy: float | None
    validation_loss: float | None
    validation_reward_gap: float | None
    validation_reward_gap_low: float | None
    validation_reward_gap_high: float | None
    validation_accuracy: float | None


class LabelNoiseFigures(Document):
    """What the `dpo` stage measures besides, with `dpo.label_noise: measured`.

    Attributes:
        label_error: mean error of the training pairs' labels; `_low` and `_high` are its range over the pairs.
        effective_pairs: how many equally weighted pairs the weighted ones are worth, as a share.
        label_error_source: where the error was measured.
    """

    label_error: float
    label_error_low: float
    label_error_high: float
    effective_pairs: float
    label_error_source: str


class DpoResult(Document):
    """The model that a DPO training ended with, on all its validation pairs.

    Attributes:
        pairs: training pairs, without those that truncation left nothing of.
        steps: optimiser steps that were made.
        validation_reward_gap: mean reward gap, pairs of one prompt as a cluster; without value where there are no
            validation pairs.
        validation_accuracy: share of the validation pairs that are ranked as labelled.
    """

    pairs: int
    steps: int
    validation_loss: float | None
    validation_reward_gap: Interval
    validation_accuracy: float | None
    outcome: MonitoringOutcome


class Origin(Document):
    """A model made elsewhere, as it was brought.

    Attributes:
        source: the folder or hub id, as the config names it.
        commit: of the hub's repository; None for a folder.
        form: what was brought.
        base: the base model that an adapter's config names; None for full weights, whose files name none.
        files: SHA-256 of every file that was taken over, by name, as it was at the source.
        notes: what was assumed, one sentence each.
    """

    source: str
    commit: str | None
    form: Literal["adapter", "full weights"]
    base: str | None
    files: dict[str, str]
    notes: tuple[str, ...]

    @property
    def address(self) -> str:
        """The source with its commit, for people."""
        return self.source if self.commit is None else f"{self.source} at {self.commit[:12]}"
