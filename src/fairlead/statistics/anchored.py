"""A judge's figure corrected by human labels on some of the same comparisons: prediction-powered inference.

The judge's mean over all comparisons has little noise and an unknown bias; the mean of a few labels has no bias and
much noise. PPI++ (Angelopoulos, Duchi & Zrnic 2023, arXiv 2311.01453) takes λ times the judge's mean over all
comparisons and adds what people say beyond λ times the judge on those that they labelled. The interval is valid
whatever the judge is worth, and with the λ that minimises the variance it is narrower the better the judge predicts
people. A judge that says nothing about them gets λ = 0, and labels alone remain.

Pure functions on arrays, as in `intervals`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from fairlead.records import Interval
from fairlead.statistics.intervals import (
    Floats,
    Labels,
    all_equal,
    bounded_mean_interval,
    check_level,
    cluster_codes,
    finite,
    mean_interval,
    same_length,
    within,
)

FEWEST_LABELS = 10  # or clusters of them: with fewer their variance is not known well enough to correct anything


@dataclass(frozen=True, slots=True)
class Anchored:
    """A mean as people would give it, three ways.

    Attributes:
        anchored: the judge's figure corrected by the labels.
        labels: by the labels alone.
        judge: by the judge alone, over all comparisons.
        weight: λ, how much of the judge's variation is believed; 0 where it says nothing about people.
        correlation: of people and judge on the labelled comparisons; None where either does not vary.
    """

    anchored: Interval
    labels: Interval
    judge: Interval
    weight: float
    correlation: float | None


def anchored_mean(
    judged: ArrayLike,
    labelled: ArrayLike,
    labels: ArrayLike,
    *,
    bounds: tuple[float, float] | None = None,
    chances: ArrayLike | None = None,
    clusters: Labels | None = None,
    weight: float | None = None,
    level: float = 0.95,
) -> Anchored:
    """Mean of what people would say of every comparison.

    With judge's values f, labels y, weights w of the labels (1/n, or by the chances) and N comparisons the figure is
    λ mean(f) + Σ w (y - λ f). For λ given and equal weights it is `ppi_mean_pointestimate` of ppi-python, whose
    unlabelled set leaves out the labelled one, at its λ = λ (N - n)/N.

    Of outcomes with `bounds`, independent and chosen alike, the interval joins that of the residuals y - λf (the score
    interval of `bounded_mean_interval`, widened by (n - 1)/(n - 2) for a fitted λ) with that of λ mean(f) by the method
    of variance estimates recovery (Zou & Donner 2008, Statistics in Medicine 27:1693-1702). With 25 labels and a judge
    that agrees with people in 95 % it covers 98 %, where the t interval covers 89 %: that no disagreement was seen does
    not mean that there is none. Otherwise it is a t interval: its variance is the sum of the squares of what each
    cluster adds to the figure, times G/(G - 2) for G clusters with labels (G/(G - 1) for λ given).

    Args:
        judged: the judge's value of each of N comparisons: an outcome in [0, 1], a score, a paired difference.
        labelled: indices of the n comparisons that people labelled, each once.
        labels: what people said of them, on the judge's scale.
        bounds: smallest and largest possible value where values bunch at the ends, as (0, 1) for outcomes; without it
            t intervals, as for scores.
        chances: with what probability each labelled comparison was chosen for labelling, up to a common factor, where
            these differ; a label then counts by one over its chance (arXiv 2403.03208). All alike if not given.
        clusters: of each of the N comparisons; comparisons of one cluster count as one draw.
        weight: λ, if it is not to be fitted.

    Raises:
        ValueError: fewer than `FEWEST_LABELS` labels, or labels in fewer clusters; an index outside of `judged` or
            twice; a chance that is not above 0; a value outside of `bounds`.
    """
    check_level(level)
    f, y = (
        finite(v, name) if bounds is None else within(v, *bounds, name)
        for v, name in ((judged, "judged"), (labels, "labels"))
    )
    places = _indices(labelled, len(f))
    same_length(places, y, "labelled and labels")
    w = _label_weights(chances, len(y))
    codes = cluster_codes(clusters, len(f))
    at_labels = codes[places]
    groups = len(set(at_labels.tolist()))
    if groups < FEWEST_LABELS:
        of_clusters = "" if groups == len(y) else f" in {groups} clusters"
        raise ValueError(f"{len(y)} labels{of_clusters} are too few to correct a judge by: {FEWEST_LABELS} are needed")
    seen = f[places]
    # What each cluster adds to the figure is of_labels - λ of_judge.
    of_labels = np.bincount(at_labels, w * (y - w @ y), minlength=codes.max() + 1)
    of_judge = np.bincount(at_labels, w * (seen - w @ seen), minlength=codes.max() + 1)
    of_judge = of_judge - np.bincount(codes, (f - f.mean()) / len(f))
    lost = 1 if weight is not None else 2
    if weight is None:
        squares = float(of_judge @ of_judge)
        weight = 0.0 if all_equal(f) else float(of_labels @ of_judge) / squares
    method = f"prediction-powered, {len(y)} labels" + ("" if groups == len(y) else f" in {groups} clusters")
    value = weight * float(f.mean()) + float(w @ (y - weight * seen))
    independent = groups == len(y) and len(set(codes.tolist())) == len(f)
    if bounds is not None and chances is None and independent:
        below, above = _recovered(y - weight * seen, f, weight, bounds, lost, level)
    else:
        share = of_labels - weight * of_judge
        spread = math.sqrt(float(share @ share) * groups / (groups - lost))
        below = above = float(stats.t.isf((1 - level) / 2, groups - lost)) * spread
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    value, least, most = (min(max(v, low), high) for v in (value, value - below, value + above))
    anchored = Interval(value, least, most, len(f), method)
    if below == above == 0:
        anchored = Interval(value, None, None, len(f), "undefined: the labels do not vary")
    by_labels = _labels_alone(y, w, at_labels, bounds if chances is None else None, level)
    return Anchored(anchored, by_labels, _mean(f, codes, bounds, level), weight, _correlation(y, seen, w))


def _recovered(
    residuals: Floats, judged: Floats, weight: float, bounds: tuple[float, float], lost: int, level: float
) -> tuple[float, float]:
    """How far the interval reaches below and above the figure: the two parts' distances, added in squares."""
    low, high = bounds
    ends = (low - max(weight * low, weight * high), high - min(weight * low, weight * high))
    of_residuals = bounded_mean_interval(residuals, *ends, level=level)
    n = len(residuals)
    widened = math.sqrt((n - 1) / (n - lost))
    of_judge = float(stats.norm.isf((1 - level) / 2)) * abs(weight) * float(judged.std(ddof=1)) / math.sqrt(len(judged))
    mean, below, above = of_residuals.value, of_residuals.low, of_residuals.high
    assert mean is not None
    assert below is not None
    assert above is not None
    return math.hypot(widened * (mean - below), of_judge), math.hypot(widened * (above - mean), of_judge)


def _mean(x: Floats, codes: NDArray[np.intp], bounds: tuple[float, float] | None, level: float) -> Interval:
    clusters = None if len(set(codes.tolist())) == len(x) else codes
    if bounds is None:
        return mean_interval(x, clusters, level)
    return bounded_mean_interval(x, *bounds, clusters, level)


def with_ties(interval: Interval, different: int, equal: int) -> Interval:
    """A win rate over the comparisons whose answers differ, as one over all: equal answers are ties that all see.

    The share of equal answers is itself a draw; its variance is added in squares.
    """
    total = different + equal
    if equal == 0 or interval.value is None:
        return replace(interval, n=total)
    share = different / total
    value = share * interval.value + (1 - share) / 2
    if interval.low is None or interval.high is None:
        return replace(interval, value=value, n=total)
    of_share = float(stats.norm.isf(0.025)) * abs(interval.value - 0.5) * math.sqrt(share * (1 - share) / total)
    below = math.hypot(share * (interval.value - interval.low), of_share)
    above = math.hypot(share * (interval.high - interval.value), of_share)
    return replace(interval, value=value, low=max(0.0, value - below), high=min(1.0, value + above), n=total)


def expected_half_width(labels: int, comparisons: int, sd: float, correlation: float, level: float = 0.95) -> float:
    """Half the width that the anchored interval will have with so many labels, drawn at random and independent.

    Its variance at the best λ is sd² ((1 - r²)/n + r²/N): what the judge does not predict is paid by labels, what it
    predicts by comparisons.

    Args:
        labels, comparisons: n and N, n at most N.
        sd: standard deviation of the labels.
        correlation: of people and judge.
    """
    check_level(level)
    if not 2 < labels <= comparisons:
        raise ValueError(f"labels: {labels} of {comparisons}")
    if not -1 <= correlation <= 1:
        raise ValueError(f"correlation: {correlation} is not between -1 and 1")
    variance = sd**2 * ((1 - correlation**2) / labels + correlation**2 / comparisons)
    return float(stats.t.isf((1 - level) / 2, labels - 2)) * math.sqrt(variance)


def labels_for_half_width(
    half_width: float, comparisons: int, sd: float, correlation: float, level: float = 0.95
) -> int | None:
    """Fewest labels with which the anchored interval is at most this wide to each side; None if all are too few."""
    few, enough = FEWEST_LABELS - 1, comparisons
    if enough <= few or expected_half_width(enough, comparisons, sd, correlation, level) > half_width:
        return None
    while enough - few > 1:
        middle = (few + enough) // 2
        if expected_half_width(middle, comparisons, sd, correlation, level) <= half_width:
            enough = middle
        else:
            few = middle
    return enough


def _indices(labelled: ArrayLike, n: int) -> NDArray[np.intp]:
    places = np.asarray(labelled)
    if places.ndim != 1 or (len(places) and places.dtype.kind not in "iu"):
        raise ValueError("labelled: a list of whole numbers is wanted")
    if len(places) and not 0 <= places.min() <= places.max() < n:
        raise ValueError(f"labelled: an index is not one of the {n} comparisons")
    if len(set(places.tolist())) < len(places):
        raise ValueError("labelled: a comparison is named twice; give the reviewers' mean")
    return places.astype(np.intp)


def _label_weights(chances: ArrayLike | None, n: int) -> Floats:
    """Weights of the labels, of sum 1: Hájek's, one over the chance of having been chosen."""
    if chances is None:
        return np.full(n, 1 / n)
    p = finite(chances, "chances")
    if len(p) != n or (p <= 0).any():
        raise ValueError(f"chances: {n} numbers above 0 are wanted, one a label")
    return np.asarray((1 / p) / np.sum(1 / p), dtype=np.float64)


def _labels_alone(
    y: Floats, w: Floats, codes: NDArray[np.intp], bounds: tuple[float, float] | None, level: float
) -> Interval:
    """The interval by labels alone; a weighted t interval where their weights differ."""
    if np.ptp(w) <= 1e-15:
        return _mean(y, codes, bounds, level)
    value = float(w @ y)
    sums = np.bincount(codes, w * (y - value))
    groups = len(set(codes.tolist()))
    if np.ptp(y) == 0:
        return Interval(value, None, None, len(y), "undefined: all labels are equal")
    half = float(stats.t.isf((1 - level) / 2, groups - 1)) * math.sqrt(float(sums @ sums) * groups / (groups - 1))
    return Interval(value, value - half, value + half, len(y), "weighted t")


def _correlation(y: Floats, f: Floats, w: Floats) -> float | None:
    if all_equal(y) or all_equal(f):
        return None
    a, b = y - w @ y, f - w @ f
    return float(w @ (a * b)) / math.sqrt(float(w @ a**2) * float(w @ b**2))
