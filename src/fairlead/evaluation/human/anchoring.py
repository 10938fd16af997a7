"""The judge's win rate corrected by the labels of people, and how far people and judge agree. Pure functions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from fairlead.documents.evaluation import HumanFigures
from fairlead.evaluation.human.labels import Label, by_place
from fairlead.records import Comparison, Interval, Verdict
from fairlead.statistics.anchored import (
    FEWEST_LABELS,
    anchored_mean,
    expected_half_width,
    with_ties,
)
from fairlead.statistics.intervals import bounded_mean_interval
from fairlead.statistics.kappa import cohens_kappa

_ASSUMED_CORRELATION = 0.5  # of people and judge before the first labels
_LARGEST_SD = 0.5  # of outcomes between 0 and 1, so that the plan does not promise too much
_NO_VERDICT = 0.5  # the judge's value where it gave none: any value leaves the corrected figure valid


def human_figures(
    verdicts: Sequence[Verdict], labels: Mapping[int, Sequence[Label]], same: Sequence[bool], clusters: Sequence[str]
) -> HumanFigures:
    """The win rate by the judge, by people, and by the judge corrected by people.

    Equal answers are a tie for whoever reads them, so they need no label; they enter the figures as the ties they are.

    Args:
        verdicts: the judge's, one a comparison.
        labels: of the labelled comparisons, by index; several people's labels of one count with their mean.
        same: whether the two answers are equal, by comparison.
        clusters: by comparison.
    """
    different = [place for place, equal in enumerate(same) if not equal]
    outcomes = [_judged(verdicts[place]) for place in different]
    labelled = [(n, labels[place]) for n, place in enumerate(different) if place in labels]
    values = [_mean(of_one) for _, of_one in labelled]
    chances = [of_one[0].chance for _, of_one in labelled]
    groups = [clusters[place] for place in different]
    clustered = groups if len(set(clusters)) < len(clusters) else None
    reviewers = sorted({label.by for _, of_one in labelled for label in of_one})
    judge = bounded_mean_interval(list(map(_judged, verdicts)), 0.0, 1.0, clusters if clustered else None)
    known = {
        "labels": len(labelled),
        "reviewers": len(reviewers),
        "judge": judge,
        "kappa_judge": _kappa_with_judge([(values[k], outcomes[n]) for k, (n, _) in enumerate(labelled)]),
        "kappa_people": _kappa_between([of_one for _, of_one in labelled], reviewers),
    }
    if len({groups[n] for n, _ in labelled}) < FEWEST_LABELS:
        none = Interval(None, None, None, len(labelled), f"undefined: fewer than {FEWEST_LABELS} labels")
        return HumanFigures(anchored=none, people=none, weight=None, correlation=None, **known)
    result = anchored_mean(
        outcomes,
        [n for n, _ in labelled],
        values,
        bounds=(0.0, 1.0),
        chances=None if None in chances else [chance for chance in chances if chance is not None],
        clusters=clustered,
    )
    ties = len(verdicts) - len(different)
    return HumanFigures(
        anchored=with_ties(result.anchored, len(different), ties),
        people=with_ties(result.labels, len(different), ties),
        weight=result.weight,
        correlation=result.correlation,
        **known,
    )


def figures_of_people(
    comparisons: Sequence[Comparison], verdicts: Sequence[Verdict], labels: Sequence[Label], clusters: Sequence[str]
) -> HumanFigures | None:
    """`human_figures` of two models' answers; None where nobody labelled any of them.

    Args:
        verdicts: the judge's, one a comparison.
        labels: of any comparisons, in any order.
        clusters: by comparison.
    """
    labelled = by_place(labels, comparisons)
    same = [comparison.first == comparison.second for comparison in comparisons]
    return human_figures(verdicts, labelled, same, clusters) if labelled else None


def _judged(verdict: Verdict) -> float:
    outcome = verdict.outcome
    return _NO_VERDICT if outcome is None else outcome


def _mean(labels: Sequence[Label]) -> float:
    return float(np.mean([label.state.outcome for label in labels if label.state.outcome is not None]))


def _word(outcome: float) -> str:
    """What most say: first, second or tie."""
    return "tie" if outcome == 0.5 else "first" if outcome > 0.5 else "second"


def _kappa_with_judge(both: Sequence[tuple[float, float]]) -> Interval:
    return cohens_kappa([_word(people) for people, _ in both], [_word(judge) for _, judge in both])


def _kappa_between(labelled: Sequence[Sequence[Label]], reviewers: Sequence[str]) -> dict[str, Interval]:
    """κ of every two reviewers, on what both labelled."""
    by_name = [{label.by: label.state for label in of_one} for of_one in labelled]
    kappas = {}
    for one, other in itertools.combinations(reviewers, 2):
        both = [(names[one], names[other]) for names in by_name if one in names and other in names]
        if both:
            kappas[f"{one} and {other}"] = cohens_kappa([a for a, _ in both], [b for _, b in both])
    return kappas


def plan_of_labels(figures: HumanFigures | None, comparisons: int) -> str:
    """How narrow the interval gets with how many labels, from the agreement seen so far, as one sentence.

    Args:
        figures: None before the first label.
        comparisons: those whose answers differ.
    """
    if comparisons <= FEWEST_LABELS:
        return f"{comparisons} comparisons are too few to correct a judge by; more than {FEWEST_LABELS} are needed"
    done = 0 if figures is None else figures.labels
    seen = None if figures is None else figures.correlation
    correlation = _ASSUMED_CORRELATION if seen is None else seen
    widths = [
        f"{n} labels ±{expected_half_width(n, comparisons, _LARGEST_SD, correlation):.3f}"
        for n in (25, 50, 100, 200, 400, 800)
        if done < n < comparisons
    ]
    all_of_them = f"all {comparisons} ±{expected_half_width(comparisons, comparisons, _LARGEST_SD, correlation):.3f}"
    basis = "assumed" if seen is None else f"seen on {done}"
    return (
        f"{done} of {comparisons} comparisons are labelled; expected for the corrected win rate: "
        f"{', '.join([*widths, all_of_them])} (correlation of people and judge {correlation:.2f}, {basis})"
    )
