"""Rows of the comparison: means, paired differences and win rates with intervals, and what each may be called.

Pure functions on values that the `eval` stage collected.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from fairlead.documents.evaluation import Conclusion, MetricDifference, MetricRow, PairResult
from fairlead.judges.missing_verdicts import by_state
from fairlead.records import Interval, ModelPair, Verdict
from fairlead.statistics.intervals import bounded_mean_interval, mean_interval, missing_bounds, paired_difference
from fairlead.statistics.power import smallest_detectable_difference
from fairlead.statistics.tests import holm, permutation_test, sign_test
from fairlead.statistics.win_rate import length_adjusted_win_rate, win_rate

SCORE_BOUNDS = (1.0, 10.0)
LEVEL = 0.95
_SEED = 0
_SFT_OVER_BASE = ModelPair("sft", "base")

Values = dict[str, list[float | None]]  # by model, one value per prompt, None where undefined or missing


def metric_row(
    metric: str,
    values: Mapping[str, Sequence[float | None]],
    clusters: Sequence[str],
    *,
    judged: bool = False,
    further: Sequence[ModelPair] = (),
) -> MetricRow:
    """A row of the table: the arms' means and the difference of DPO over SFT, all on the same prompts.

    Those are the prompts for which every arm has a value.

    Args:
        values: by arm, one value per prompt; None where the metric is undefined or the score is missing.
        clusters: cluster of every prompt.
        judged: scores of a judge from 1 to 10; else a check from 0 to 1.
        further: other pairs of arms, of which the differences are wanted too.
    """
    common = [all(v is not None for v in of_prompt) for of_prompt in zip(*values.values(), strict=True)]
    means = {}
    for model, of_model in values.items():
        counted = [(v, c) for v, c, counts in zip(of_model, clusters, common, strict=True) if v is not None and counts]
        means[model] = mean_of([v for v, _ in counted], [c for _, c in counted], judged=judged)
    pair = ModelPair("dpo", "sft" if "sft" in values else "base")

    def difference(pair: ModelPair) -> MetricDifference:
        candidate, reference = values[pair.candidate], values[pair.reference]
        return metric_difference(metric, pair, candidate, reference, clusters, judged=judged, common=common)

    sft_over_base = difference(_SFT_OVER_BASE) if {"sft", "base"} <= values.keys() else None
    others = tuple(map(difference, (other for other in further if other not in (pair, _SFT_OVER_BASE))))
    return MetricRow(means=means, difference=difference(pair), sft_over_base=sft_over_base, further=others)


def mean_of(values: Sequence[float], clusters: Sequence[str], *, judged: bool) -> Interval:
    """The mean of a metric with its interval.

    Args:
        judged: scores of a judge from 1 to 10; else a check from 0 to 1.
    """
    if judged and len(set(values)) > 1:
        interval = mean_interval(values, clusters)
        if interval.low is None or interval.high is None:
            return interval
        # A mean lies on the scale, which the t interval of a few answers does not know.
        return replace(interval, low=max(interval.low, SCORE_BOUNDS[0]), high=min(interval.high, SCORE_BOUNDS[1]))
    return bounded_mean_interval(values, *(SCORE_BOUNDS if judged else (0.0, 1.0)), clusters)


def metric_difference(
    metric: str,
    pair: ModelPair,
    candidate: Sequence[float | None],
    reference: Sequence[float | None],
    clusters: Sequence[str],
    *,
    judged: bool = False,
    common: Sequence[bool] | None = None,
) -> MetricDifference:
    """The mean of candidate - reference over the prompts that have both.

    Args:
        common: which prompts count at all; all of them if None.
    """
    counts = common if common is not None else [True] * len(candidate)
    rows = zip(candidate, reference, clusters, counts, strict=True)
    both = [
        (new, old, cluster) for new, old, cluster, counted in rows if new is not None and old is not None and counted
    ]
    after, before, groups = ([row[at] for row in both] for at in range(3))
    # The t interval that scores have is undefined where all differences are equal; the score interval is not.
    equal = len({round(new - old, 9) for new, old, _ in both}) < 2
    bounds = SCORE_BOUNDS if judged and equal else None if judged else (0.0, 1.0)
    delta = paired_difference(after, before, groups, bounds=bounds)
    test = permutation_test(np.subtract(after, before), np.random.default_rng(_SEED), groups)
    worst, best = _extremes(candidate, reference) if judged else (None, None)
    return MetricDifference(
        metric=metric,
        pair=pair,
        delta=delta,
        missing=len(candidate) - delta.n,
        conclusion=conclude(delta),
        detectable=detectable(delta),
        delta_worst=worst,
        delta_best=best,
        p=test.p,
    )


def _extremes(
    candidate: Sequence[float | None], reference: Sequence[float | None]
) -> tuple[float | None, float | None]:
    """Bounds of the mean difference, with missing scores at the ends of the range (Manski 1989)."""
    low, high = SCORE_BOUNDS
    bounds = [
        ((low if n is None else n) - (high if o is None else o), (high if n is None else n) - (low if o is None else o))
        for n, o in zip(candidate, reference, strict=True)
    ]
    if not bounds:
        return None, None
    return sum(e[0] for e in bounds) / len(bounds), sum(e[1] for e in bounds) / len(bounds)


def with_holm(differences: Sequence[MetricDifference]) -> list[MetricDifference]:
    """The differences with `p_holm`, their p-values after Holm's correction over all of them."""
    adjusted = iter(holm([d.p for d in differences if d.p is not None]).tolist())
    return [d.model_copy(update={"p_holm": None if d.p is None else next(adjusted)}) for d in differences]


def rows_with_holm(table: Sequence[MetricRow]) -> list[MetricRow]:
    """`with_holm` of all differences of the rows but SFT's over the base."""
    corrected = iter(with_holm([difference for row in table for difference in (row.difference, *row.further)]))
    return [
        row.model_copy(update={"difference": next(corrected), "further": tuple(next(corrected) for _ in row.further)})
        for row in table
    ]


def spread(interval: Interval, level: float = LEVEL) -> float | None:
    """Standard deviation of one value that an interval of this width and n comes from; clusters are counted in."""
    if interval.low is None or interval.high is None or interval.high <= interval.low:
        return None
    critical = float(stats.norm.isf((1 - level) / 2))
    return (interval.high - interval.low) / 2 / critical * math.sqrt(interval.n)


def width(interval: Interval) -> float | None:
    """From end to end; None where there is no interval."""
    return None if interval.low is None or interval.high is None else interval.high - interval.low


def detectable(interval: Interval) -> float | None:
    """Smallest true difference that would have been seen with a power of 80 %, given the interval's width."""
    sd = spread(interval)
    return None if sd is None else smallest_detectable_difference(interval.n, sd)


def conclude(interval: Interval, null_value: float = 0.0) -> Conclusion:
    """What a figure may be called where `null_value` means no difference; one inside the noise is called neither."""
    if interval.low is None or interval.high is None:
        return Conclusion.UNDEFINED
    if interval.low > null_value:
        return Conclusion.BETTER
    return Conclusion.WORSE if interval.high < null_value else Conclusion.NOT_SHOWN


def pair_result(
    pair: ModelPair,
    verdicts: Sequence[Verdict],
    clusters: Sequence[str],
    lengths: Sequence[int] | None = None,
    reference_lengths: Sequence[int] | None = None,
) -> PairResult:
    """Win rate of the candidate over the reference (ties half) with its 95 % interval, and the count of every state.

    Every pair of answers that was judged counts, with the mean of its orders: one whose orders contradict each other
    counts half. The win rate at equal length is not AlpacaEval's leaderboard figure.

    Args:
        verdicts: on the candidate's answers against the reference's.
        lengths, reference_lengths: characters of the answers, in the order of the verdicts.
    """
    judged = [(value, number) for number, v in enumerate(verdicts) if (value := v.outcome) is not None]
    outcomes, places = [value for value, _ in judged], [number for _, number in judged]
    groups = [clusters[number] for number in places]
    missing = sum(verdict.missing for verdict in verdicts)
    rate, bounds = win_rate(outcomes, groups), missing_bounds(outcomes, missing)
    decided = [(value, clusters[number]) for value, number in judged if verdicts[number].decided]
    adjusted = None
    if lengths is not None and reference_lengths is not None:
        of_candidate, of_reference = ([of[number] for number in places] for of in (lengths, reference_lengths))
        rng = np.random.default_rng(_SEED)
        adjusted = length_adjusted_win_rate(outcomes, of_candidate, of_reference, rng, groups)
    return PairResult(
        pair=pair,
        win_rate=rate,
        missing=missing,
        states=by_state(Counter(verdict.state for verdict in verdicts)),
        conclusion=conclude(rate, null_value=0.5),
        detectable=detectable(rate),
        worst=bounds.worst,
        best=bounds.best,
        consistent=win_rate([value for value, _ in decided], [group for _, group in decided]),
        pooled=_pooled([verdicts[number] for number in places], groups),
        sign_test_p=sign_test(sum(o > 0.5 for o in outcomes), sum(o < 0.5 for o in outcomes)).p,
        length_adjusted=adjusted,
    )


def _pooled(judged: Sequence[Verdict], clusters: Sequence[str]) -> Interval:
    """Win rate over single votes. A verdict without orders (equal answers) has as many votes as the others."""
    most = max((len(verdict.orders) for verdict in judged), default=0) or 1
    votes = [
        (vote, cluster)
        for verdict, cluster in zip(judged, clusters, strict=True)
        for vote in verdict.votes * (most // len(verdict.votes))
    ]
    return win_rate([vote for vote, _ in votes], [cluster for _, cluster in votes])


def as_json(interval: Interval) -> dict[str, float | int | str | None]:
    """The interval as JSON values."""
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "method": interval.method,
    }
