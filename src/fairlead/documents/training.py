"""`training.json`, the result of a DPO training, with which trainings are compared."""

from __future__ import annotations

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
