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


class SeedFigure(Document):
    """One figure of the comparison over several seeds: the win rate, or the difference of a metric.

    Attributes:
        of_seeds: the figure of each seed.
        seed_share: share of the variance that the seeds have; None where there is none.
        seeds_differ_p: of the test that all seeds have one figure; None where it is undefined.
    """

    name: str
    over_seeds_and_prompts: Interval
    of_seeds: dict[str, float]
    seed_share: float | None
    seeds_differ_p: float | None


class SeedsResult(Document):
    """`seeds.json`: DPO over what it was trained from, trained with several seeds."""

    pair: str
    seeds: tuple[int, ...]
    figures: tuple[SeedFigure, ...]
