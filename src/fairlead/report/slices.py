"""The comparison slice by slice as a table, the worst first."""

from __future__ import annotations

import math

from fairlead.documents.evaluation import SliceResult, Slices
from fairlead.escape import code_span, markdown
from fairlead.evaluation.slices import FEWEST, is_worse, loses
from fairlead.records import Interval


def slices_markdown(slices: Slices | None) -> str:
    """A row for each slice; "" where the comparison is not made by slices."""
    if slices is None:
        return ""
    metrics = list(dict.fromkeys(d.metric for of_slice in slices.slices for d in of_slice.differences))
    left_out = f"; {slices.left_out} prompts are in no slice of {FEWEST} or more" if slices.left_out else ""
    lines = [
        f"### By {code_span(slices.by)}",
        "",
        f"{slices.pair.title} on each slice, the worst first{left_out}. What is called worse is so after Holm's "
        "correction over all slices and metrics.",
        "",
        f"| {' | '.join(('Slice', 'n', 'Win rate', *(f'Δ {markdown(metric)}' for metric in metrics)))} |",
        "|---|---|---|" + "---|" * len(metrics),
    ]
    for of_slice in sorted(slices.slices, key=_rank):
        by_metric = {d.metric: d for d in of_slice.differences}
        differences = (
            _cell(d.delta, "+.3f", worse=is_worse(d)) if (d := by_metric.get(metric)) else "—" for metric in metrics
        )
        rate = "—" if of_slice.win_rate is None else _cell(of_slice.win_rate, ".3f", worse=loses(of_slice))
        lines.append(f"| {' | '.join((markdown(of_slice.slice), str(of_slice.prompts), rate, *differences))} |")
    return "\n".join(lines)


def _rank(of_slice: SliceResult) -> float:
    """By the win rate where there is one, else by the mean of the differences."""
    if of_slice.win_rate is not None and of_slice.win_rate.value is not None:
        return of_slice.win_rate.value - 0.5
    deltas = [d.delta.value for d in of_slice.differences if d.delta.value is not None]
    return sum(deltas) / len(deltas) if deltas else math.inf


def _cell(interval: Interval, form: str, *, worse: bool) -> str:
    if interval.value is None:
        return "—"
    ends = "" if interval.low is None else f" [{interval.low:{form}}, {interval.high:{form}}]"
    return f"{interval.value:{form}}{ends}{' worse' * worse}"
