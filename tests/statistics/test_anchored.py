"""A judge's figure corrected by labels: hand-worked numbers, two other implementations, and coverage."""

from __future__ import annotations

import math
from typing import Any

import evalstats.ppi
import numpy as np
import ppi_py
import pytest
from scipy import stats

from fairlead.records import Interval
from fairlead.statistics.anchored import (
    FEWEST_LABELS,
    anchored_mean,
    expected_half_width,
    labels_for_half_width,
)

Draw = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def draw(rng: np.random.Generator, n: int, agreement: float = 0.85, comparisons: int = 1000) -> Draw:
    """Outcomes by a judge who also takes 15 % of all losses for wins, the labelled indices, and their labels."""
    people = (rng.random(comparisons) < 0.55).astype(float)
    judged = np.where(rng.random(comparisons) < agreement, people, 1 - people)
    judged = np.where((judged == 0) & (rng.random(comparisons) < 0.15), 1.0, judged)
    labelled = rng.choice(comparisons, n, replace=False)
    return judged, labelled, people[labelled]


def covers(interval: Interval, value: float) -> bool:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= value <= interval.high


def test_figure_worked_by_hand() -> None:
    judged = [1.0] * 12 + [0.0] * 8
    labelled = [0, 1, 2, 3, 4, 5, 12, 13, 14, 15]
    labels = [1, 1, 1, 1, 0, 0, 0, 0, 0, 1]  # 5 of 10; the judge said 6 of 10 of them, 12 of 20 of all
    plain = anchored_mean(judged, labelled, labels, bounds=(0, 1), weight=1.0)
    assert plain.anchored.value == pytest.approx(0.6 + (0.5 - 0.6))
    assert plain.labels.value == 0.5
    assert plain.judge.value == 0.6
    none = anchored_mean(judged, labelled, labels, bounds=(0, 1), weight=0.0)
    assert none.anchored.value == 0.5
    # Wilson's interval of 5 of 10: with λ = 0 only the labels are left.
    assert (none.anchored.low, none.anchored.high) == pytest.approx((none.labels.low, none.labels.high))


def test_t_interval_worked_by_hand() -> None:
    judged = np.arange(20.0)
    labelled = np.arange(0, 20, 2)
    labels = judged[labelled] + [1, -1, 2, 0, 1, -1, 0, 2, 1, 0]
    got = anchored_mean(judged, labelled, labels, weight=1.0).anchored
    residual = labels - judged[labelled]
    share = np.zeros(20)
    share[labelled] += (residual - residual.mean()) / 10
    share += (judged - judged.mean()) / 20
    half = stats.t.isf(0.025, 9) * math.sqrt(float(share @ share) * 10 / 9)
    assert got.value == pytest.approx(9.5 + 0.5)
    assert (got.low, got.high) == pytest.approx((10 - half, 10 + half))


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_figure_and_interval_are_those_of_ppi_python(weight: float) -> None:
    rng = np.random.default_rng(1)
    judged = rng.normal(6, 2, 2000)
    labelled = rng.choice(2000, 300, replace=False)
    labels = judged[labelled] * 0.7 + rng.normal(1, 1, 300)
    unlabelled = np.setdiff1d(np.arange(2000), labelled)
    theirs = weight * 1700 / 2000  # its unlabelled set leaves out the labelled one
    ours = anchored_mean(judged, labelled, labels, weight=weight).anchored
    value = ppi_py.ppi_mean_pointestimate(labels, judged[labelled], judged[unlabelled], lam=theirs)
    low, high = ppi_py.ppi_mean_ci(labels, judged[labelled], judged[unlabelled], alpha=0.05, lam=theirs)
    assert ours.value == pytest.approx(float(np.squeeze(value)), abs=1e-12)
    assert (ours.low, ours.high) == pytest.approx((float(np.squeeze(low)), float(np.squeeze(high))), abs=0.01)


def test_fitted_weight_is_that_of_ppi_python() -> None:
    judged, labelled, labels = draw(np.random.default_rng(2), 400, comparisons=4000)
    unlabelled = np.setdiff1d(np.arange(4000), labelled)
    ours = anchored_mean(judged, labelled, labels, bounds=(0, 1))
    value = ppi_py.ppi_mean_pointestimate(labels, judged[labelled], judged[unlabelled])
    assert ours.anchored.value == pytest.approx(float(np.squeeze(value)), abs=2e-3)


def test_figure_is_that_of_evalstats() -> None:
    judged, labelled, labels = draw(np.random.default_rng(3), 200)
    unlabelled = np.setdiff1d(np.arange(1000), labelled)
    theirs = evalstats.ppi.correct(
        np.mean,
        Y_lab=labels,
        Y_hat_lab=judged[labelled],
        Y_hat_unlab=judged[unlabelled],
        power_tune=False,
        compute_pvalue=False,
        rng=np.random.default_rng(0),
    )
    ours = anchored_mean(judged, labelled, labels, weight=1000 / 800)
    assert ours.anchored.value == pytest.approx(theirs.estimate, abs=1e-9)


@pytest.mark.parametrize(("agreement", "n"), [(0.6, 25), (0.85, 50), (0.85, 200), (0.95, 50)])
def test_coverage_where_the_judge_alone_fails(agreement: float, n: int) -> None:
    rng = np.random.default_rng(4)
    results = [anchored_mean(j, at, y, bounds=(0, 1)) for j, at, y in (draw(rng, n, agreement) for _ in range(400))]
    # 400 draws of a true 95 % lie within 0.92 and 0.98 in all but one of 200 cases.
    assert 0.92 <= np.mean([covers(r.anchored, 0.55) for r in results]) <= 0.98
    assert np.mean([covers(r.judge, 0.55) for r in results]) < 0.5


def test_a_good_judge_narrows_the_interval_and_a_random_one_does_no_harm() -> None:
    rng = np.random.default_rng(5)

    def width(agreement: float) -> float:
        ratios = []
        for _ in range(100):
            judged, at, y = draw(rng, 100, agreement)
            both = anchored_mean(judged, at, y, bounds=(0, 1))
            widths = [i.high - i.low for i in (both.anchored, both.labels) if i.high is not None and i.low is not None]
            ratios.append(widths[0] / widths[1])
        return float(np.mean(ratios))

    assert width(0.95) < 0.8
    assert width(0.5) < 1.03


def test_clusters_count_as_one_draw_each() -> None:
    """Labels and judge alike within clusters of five: the interval must cover as with a fifth of the comparisons."""
    rng = np.random.default_rng(6)
    covered, as_if_independent = [], []
    for _ in range(300):
        clusters = np.repeat(np.arange(200), 5)
        people = rng.normal(size=200)[clusters]
        judged = people + rng.normal(size=200)[clusters] + 0.5
        at = np.flatnonzero(np.isin(clusters, rng.choice(200, 40, replace=False)))
        covered.append(covers(anchored_mean(judged, at, people[at], clusters=clusters).anchored, 0.0))
        as_if_independent.append(covers(anchored_mean(judged, at, people[at]).anchored, 0.0))
    assert 0.91 <= np.mean(covered) <= 0.99
    assert np.mean(as_if_independent) < 0.8


def test_unequal_chances_are_weighed() -> None:
    """People see mostly comparisons that the judge is unsure of, where they lose more often than elsewhere."""
    rng = np.random.default_rng(7)
    weighed, plain = [], []
    for _ in range(300):
        unsure = rng.random(1000) < 0.5
        people = (rng.random(1000) < np.where(unsure, 0.4, 0.8)).astype(float)
        judged = np.where(unsure, 0.5, 0.9)
        chance = np.where(unsure, 0.24, 0.06)
        at = np.flatnonzero(rng.random(1000) < chance)
        kwargs: dict[str, Any] = {"bounds": (0, 1), "weight": 0.0}
        weighed.append(covers(anchored_mean(judged, at, people[at], chances=chance[at], **kwargs).anchored, 0.6))
        plain.append(covers(anchored_mean(judged, at, people[at], **kwargs).anchored, 0.6))
    assert 0.91 <= np.mean(weighed) <= 0.99
    assert np.mean(plain) < 0.5


def test_a_judge_that_never_varies_leaves_the_labels() -> None:
    labels = [1.0] * 8 + [0.0] * 12
    constant = anchored_mean([0.9] * 50, range(20), labels, bounds=(0, 1))
    assert constant.weight == 0
    assert constant.correlation is None
    assert constant.anchored.value == pytest.approx(0.4)


def test_labels_that_are_all_equal_have_a_width() -> None:
    got = anchored_mean([1.0, 0.0] * 50, range(20), [1.0] * 20, bounds=(0, 1)).anchored
    assert got.value == pytest.approx(1.0)
    assert got.low is not None
    assert 0.7 < got.low < 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labelled": range(FEWEST_LABELS - 1), "labels": [1.0] * (FEWEST_LABELS - 1)}, "9 labels are too few"),
        ({"labelled": [0, *range(11)]}, "named twice"),
        ({"labelled": range(95, 107)}, "not one of the 100 comparisons"),
        ({"labelled": [0.5] * 12}, "whole numbers"),
        ({"labels": [1.0] * 11 + [2.0]}, "labels: all must lie in"),
        ({"labels": [1.0] * 11}, "lengths differ"),
        ({"chances": [0.0] * 12}, "above 0"),
        ({"clusters": [0] * 100}, "in 1 clusters are too few"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"judged": [1.0, 0.0] * 50, "labelled": range(12), "labels": [1.0] * 12}
    with pytest.raises(ValueError, match=message):
        anchored_mean(**{**arguments, "bounds": (0, 1), **change})


def test_plan_of_labels() -> None:
    """At r² = ½, 100 labels of 1,000 are worth 1 / (½/100 + ½/1000) = 181.8."""
    half = expected_half_width(100, 1000, 0.5, math.sqrt(0.5))
    assert half == pytest.approx(stats.t.isf(0.025, 98) * 0.5 / math.sqrt(181.818), rel=1e-3)
    few = labels_for_half_width(half, 1000, 0.5, math.sqrt(0.5))
    assert few == 100
    assert labels_for_half_width(0.01, 1000, 0.5, 0.9) is None
    better = labels_for_half_width(half, 1000, 0.5, 0.9)
    assert better is not None
    assert better < 60


def test_the_plan_holds() -> None:
    rng = np.random.default_rng(8)
    results = [anchored_mean(j, at, y, bounds=(0, 1)) for j, at, y in (draw(rng, 200) for _ in range(50))]
    widths = [(r.anchored.high - r.anchored.low) / 2 for r in results if r.anchored.high and r.anchored.low]
    r = float(np.mean([x.correlation for x in results if x.correlation is not None]))
    assert np.mean(widths) == pytest.approx(expected_half_width(200, 1000, math.sqrt(0.55 * 0.45), r), rel=0.05)
