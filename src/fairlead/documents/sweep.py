"""`sweep.json`: what a sweep measured of every point, and which it recommends."""

from __future__ import annotations

from fairlead.documents.base import Document
from fairlead.documents.diagnosis import ConfigValue
from fairlead.records import Interval


class SweepPoint(Document):
    """One trained and evaluated setting.

    Attributes:
        values: config keys of the sweep and what they were set to.
        win_rate: over the model that DPO started from.
        kl: from that model, in nats per answer.
        metrics: means of the declared metrics.
        failed: why the point has no measurements; None where it has.
        equal_to_best: whether its quality cannot be told from that of the best point.
        usual_advice: what is usually said of the point's β.
    """

    name: str
    values: dict[str, ConfigValue]
    win_rate: Interval
    kl: Interval
    validation_reward_gap: Interval
    validation_accuracy: float | None
    metrics: dict[str, Interval]
    failed: str | None
    equal_to_best: bool
    usual_advice: str


class SweepResult(Document):
    """The points of a sweep.

    Attributes:
        recommended: name of the recommended point; None where no point has a win rate.
        why: the reason in words.
    """

    points: list[SweepPoint]
    recommended: str | None
    why: str
