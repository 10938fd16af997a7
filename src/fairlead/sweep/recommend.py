"""The points of a sweep, which of them is recommended, and why. Pure functions on measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairlead.documents.diagnosis import ConfigValue, as_yaml
from fairlead.records import Interval
from fairlead.statistics.intervals import paired_difference

USUAL_ADVICE = {0.01: "very aggressive", 0.1: "standard", 0.5: "conservative", 1.0: "minimal change"}
"""What is usually said of β; it stands beside what was measured."""


@dataclass(frozen=True)
class Point:
    """One trained and evaluated value of the sweep.

    Attributes:
        values: config keys of the sweep and what they were set to.
        outcomes: of each held-out prompt, 1 where the policy won against what it started from, 0 lost, ½ a tie, None
            without a verdict; the same prompts in the same order for every point.
        win_rate: mean outcome with its interval.
        kl: KL from the reference in nats per answer, with its interval.
        gap: reward gap on the validation pairs, with its interval.
        accuracy: share of the validation pairs that the policy ranks as labelled.
        metrics: means of the table's metrics, with their intervals.
        failed: why the point has no measurements; None where it has.
    """

    values: Mapping[str, ConfigValue]
    outcomes: tuple[float | None, ...]
    win_rate: Interval
    kl: Interval
    gap: Interval
    accuracy: float | None
    metrics: Mapping[str, Interval]
    failed: str | None = None

    @classmethod
    def not_measured(cls, values: Mapping[str, ConfigValue], why: str) -> Point:
        """A point whose training or evaluation failed."""
        none = Interval(None, None, None, 0, "failed")
        return cls(values, (), none, none, none, None, {}, why)

    @property
    def name(self) -> str:
        return ", ".join(f"{key.rsplit('.', 1)[-1]} {_value_text(value)}" for key, value in self.values.items())


@dataclass(frozen=True)
class Recommendation:
    """The value to take.

    Attributes:
        index: of the recommended point; None where no point has a win rate.
        best: of the point with the highest win rate.
        equal: points whose quality cannot be told from the best, itself included.
        differences: best less each point, paired by prompt; None where a point has no win rate.
        why: the reason in words.
    """

    index: int | None
    best: int | None
    equal: tuple[int, ...]
    differences: tuple[Interval | None, ...]
    why: str


def recommend(points: Sequence[Point], clusters: Sequence[str]) -> Recommendation:
    """The point with the smallest KL among those whose quality can't be told from the best.

    Two points differ where the 95 % interval of the difference of their outcomes, paired by prompt, leaves out 0. The
    best of several is partly best by chance, so the comparison errs towards a difference, and so towards the best.
    """
    rated = [i for i, point in enumerate(points) if point.win_rate.value is not None]
    if not rated:
        return Recommendation(None, None, (), (None,) * len(points), "no point has a win rate")
    best = max(rated, key=lambda i: points[i].win_rate.value or 0.0)
    differences = tuple(
        _difference(points[best], point, clusters) if i in rated else None for i, point in enumerate(points)
    )
    equal = tuple(i for i in rated if i == best or not _told_apart(differences[i]))
    measured = [i for i in equal if points[i].kl.value is not None]
    index = min(measured, key=lambda i: points[i].kl.value or 0.0) if measured else best
    chosen = points[index]
    if index == best:
        others = "no other has a smaller KL and cannot be told from it" if measured else "no KL was measured"
        return Recommendation(index, best, equal, differences, f"{chosen.name} has the highest win rate; {others}")
    difference = differences[index]
    assert difference is not None
    low, high = difference.low, difference.high
    why = (
        f"{chosen.name} has the smallest KL of those that cannot be told from the best ({points[best].name}: "
        f"difference {difference.value or 0.0:+.3f}"
        + (f" [{low:+.3f}, {high:+.3f}]" if low is not None and high is not None else "")
        + f", n {difference.n})"
    )
    return Recommendation(index, best, equal, differences, why)


def _difference(best: Point, other: Point, clusters: Sequence[str]) -> Interval:
    both = [
        (a, b, c)
        for a, b, c in zip(best.outcomes, other.outcomes, clusters, strict=True)
        if a is not None and b is not None
    ]
    return paired_difference([a for a, _, _ in both], [b for _, b, _ in both], [c for _, _, c in both], bounds=(0, 1))


def _told_apart(difference: Interval | None) -> bool:
    return difference is not None and difference.low is not None and difference.low > 0


def advice(values: Mapping[str, ConfigValue]) -> str:
    """What is usually said of the point's β; nothing of values between."""
    beta = values.get("dpo.beta")
    return USUAL_ADVICE.get(beta, "") if isinstance(beta, float | int) else ""


def markdown(points: Sequence[Point], recommendation: Recommendation, waived: str | None = None) -> str:
    """The sweep as a page: the table, the recommendation, the frontier's picture.

    Args:
        waived: why nobody measured whether to fine-tune, if that was waived.
    """
    metrics = list(dict.fromkeys(name for point in points for name in point.metrics))
    head = ["", "win rate", "KL, nats per answer", "validation gap", "validation accuracy", *metrics, "usual advice"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for i, point in enumerate(points):
        mark = (
            " **recommended**"
            if i == recommendation.index
            else " (equal to the best)"
            if i in recommendation.equal
            else ""
        )
        if point.failed is not None:
            mark = f" failed: {' '.join(point.failed.replace('|', '/').split())}"
        cells = [
            f"{point.name}{mark}",
            interval_text(point.win_rate),
            interval_text(point.kl),
            interval_text(point.gap),
            "—" if point.accuracy is None else f"{point.accuracy:.3f}",
            *(interval_text(point.metrics[name]) if name in point.metrics else "—" for name in metrics),
            advice(point.values),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    parts = [
        "# Sweep",
        "\n".join(lines),
        f"Recommended: {recommendation.why}. Intervals are 95 %.",
        "KL is the drift stage's KL from the reference: on answers that the policy samples to held-out prompts, exact "
        "at each token over the whole vocabulary, summed over the answer.",
        "![frontier](frontier.svg)",
    ]
    if waived is not None:
        parts.insert(1, f"**The decision whether to fine-tune was waived:** {' '.join(waived.split())}")
    return "\n\n".join(parts) + "\n"


def interval_text(interval: Interval) -> str:
    """A value with its interval and n, for people."""
    if interval.value is None:
        return "—"
    low, high = interval.low, interval.high
    ends = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{interval.value:.3f}{ends}, n {interval.n}"


def _value_text(value: ConfigValue) -> str:
    """A value as in YAML; numbers as they were given."""
    return str(value) if isinstance(value, float) else as_yaml(value)
