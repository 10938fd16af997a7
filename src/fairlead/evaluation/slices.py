"""The comparison slice by slice: where a model got worse although it got better on the whole. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.documents.evaluation import Conclusion, MetricDifference, SliceResult, Slices
from fairlead.evaluation.table import Values, conclude, metric_difference
from fairlead.records import ModelPair, Prompt, Verdict
from fairlead.statistics.tests import holm, sign_test
from fairlead.statistics.win_rate import win_rate

CLUSTER = "cluster"
FEWEST = 10  # prompts of a slice; fewer show nothing and cost Holm's correction a place
ALPHA = 0.05


def labels_of(prompts: Sequence[Prompt], by: str) -> list[str | None]:
    """The slice of every prompt: its cluster, or the value of a field of its gold; None where it has none."""
    values: list[Any] = [prompt.cluster if by == CLUSTER else prompt.gold.get(by) for prompt in prompts]
    return [str(value) if isinstance(value, str | int | float) and value != "" else None for value in values]


def slices_of(
    metrics: Mapping[str, Values],
    verdicts: Sequence[Verdict] | None,
    labels: Sequence[str | None],
    clusters: Sequence[str],
    pair: ModelPair,
    *,
    by: str,
    judged: Sequence[str] = (),
) -> Slices:
    """Every metric's difference and the win rate of a pair on each slice, with Holm's correction over all of them.

    Args:
        metrics: by name and model, one value per prompt.
        verdicts: on the pair's answers to every prompt; None where no judge was asked.
        labels: slice of every prompt; None for one that is in no slice.
        clusters: cluster of every prompt.
        by: what the slices were made by.
        judged: the metrics that are scores of a judge from 1 to 10.
    """
    members: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        if label is not None:
            members.setdefault(label, []).append(number)
    large = {label: numbers for label, numbers in members.items() if len(numbers) >= FEWEST}
    results = [
        _slice(label, numbers, metrics, verdicts, clusters, pair, judged) for label, numbers in sorted(large.items())
    ]
    return Slices(
        by=by, pair=pair, slices=tuple(_with_holm(results)), left_out=len(labels) - sum(map(len, large.values()))
    )


def _slice(
    label: str,
    numbers: Sequence[int],
    metrics: Mapping[str, Values],
    verdicts: Sequence[Verdict] | None,
    clusters: Sequence[str],
    pair: ModelPair,
    judged: Sequence[str],
) -> SliceResult:
    of_slice = [clusters[number] for number in numbers]
    differences = tuple(
        metric_difference(
            metric,
            pair,
            [values[pair.candidate][number] for number in numbers],
            [values[pair.reference][number] for number in numbers],
            of_slice,
            judged=metric in judged,
        )
        for metric, values in metrics.items()
    )
    rated = [
        (outcome, clusters[number])
        for number in (numbers if verdicts is not None else ())
        if verdicts is not None and (outcome := verdicts[number].outcome) is not None
    ]
    outcomes = [outcome for outcome, _ in rated]
    return SliceResult(
        slice=label,
        prompts=len(numbers),
        differences=differences,
        win_rate=win_rate(outcomes, [cluster for _, cluster in rated]) if rated else None,
        p=sign_test(sum(o > 0.5 for o in outcomes), sum(o < 0.5 for o in outcomes)).p if rated else None,
    )


def _with_holm(results: Sequence[SliceResult]) -> list[SliceResult]:
    """The results with their p-values after Holm's correction over all metrics and win rates of all slices."""
    values = [p for result in results for p in (*(d.p for d in result.differences), result.p)]
    adjusted = iter(holm([p for p in values if p is not None]).tolist())

    def corrected(p: float | None) -> float | None:
        return None if p is None else next(adjusted)

    return [
        result.model_copy(
            update={
                "differences": tuple(d.model_copy(update={"p_holm": corrected(d.p)}) for d in result.differences),
                "p_holm": corrected(result.p),
            }
        )
        for result in results
    ]


def is_worse(difference: MetricDifference) -> bool:
    """Whether a metric is credibly worse on a slice, after the correction too."""
    return difference.conclusion is Conclusion.WORSE and difference.p_holm is not None and difference.p_holm < ALPHA


def loses(result: SliceResult) -> bool:
    """The same of the win rate."""
    rate = result.win_rate
    if rate is None or result.p_holm is None:
        return False
    return conclude(rate, null_value=0.5) is Conclusion.WORSE and result.p_holm < ALPHA


def worse_counts(slices: Slices) -> int:
    """How many metrics and win rates of all slices are credibly worse after the correction."""
    return sum(sum(map(is_worse, result.differences)) + loses(result) for result in slices.slices)
