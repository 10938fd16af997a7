"""The figures that a criterion may name, as a tree by the published names of report.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, Union

from pydantic import JsonValue

from fairlead.config.figures import SLICE_FIGURES, WORSE_THAN_PROMPTED, split_path
from fairlead.config.values.arms import PROMPTED
from fairlead.documents.drift import DriftResult
from fairlead.documents.evaluation import CAVEATS, SHARED_JUDGE, Arm, EvalResult, MetricDifference, Slices
from fairlead.documents.report import Drift, Figures, PairFigures, TableRow, figures_of_arms, further_differences
from fairlead.errors import ConfigError, some
from fairlead.evaluation.slices import worse_counts
from fairlead.records import Interval, ModelPair, Preference

FigureTree: TypeAlias = Mapping[str, Union["FigureTree", JsonValue]]

DPO_OVER_SFT = ModelPair("dpo", "sft")
DPO_OVER_BASE = ModelPair("dpo", "base")
SFT_OVER_BASE = ModelPair("sft", "base")
_COMPARED = ("table.", "pairwise.", "differences.", "metrics_worse", "metrics_better")


def figure_tree(
    result: EvalResult,
    pair: ModelPair,
    *,
    leaks: int,
    data: Mapping[str, int],
    data_check: Mapping[str, int],
    training: Mapping[str, Figures],
    drift: Drift,
    arms: Mapping[str, Arm],
) -> FigureTree:
    """Every figure that a criterion may name.

    Args:
        pair: the candidate, and what it was trained from: whose differences `metrics_worse` and `metrics_better` count.
        leaks: training prompts that are eval prompts.
        data: faults of the pairs, counted.
        data_check: how many checks of the pairs failed, and warned.
        training: what the stages of the training measured, by stage.
        drift: what training left as it was, and what it moved.
        arms: what each is, and what it costs.
    """
    differences = [row.sft_over_base if pair == SFT_OVER_BASE else row.difference for row in result.table]
    counts = Counter(caveat.name for caveat in result.caveats)
    warnings = {name: counts[name] for name in (*CAVEATS, *counts)}
    pairwise = {str(r.pair): {"human": None, **PairFigures.of(r).model_dump(mode="json")} for r in result.pairwise}
    return {
        "table": {row.metric: _row(TableRow.of_row(row)) for row in result.table},
        "pairwise": {**_not_judged(pair, arms), **pairwise},
        "arms": {name: arm.model_dump(mode="json") for name, arm in figures_of_arms(arms, result.table).items()},
        "differences": {
            pair_name: {metric: figures.model_dump(mode="json") for metric, figures in of_pair.items()}
            for pair_name, of_pair in further_differences(result.table).items()
        },
        "slices": _slices(result.slices),
        WORSE_THAN_PROMPTED: _worse_than_prompted(result, pair.candidate),
        "missing": result.missing,
        "verdicts": 1 - result.missing,
        "prompts": result.prompts,
        **_credible([difference for difference in differences if difference is not None]),
        "leaks": leaks,
        SHARED_JUDGE: warnings[SHARED_JUDGE],
        "warnings": warnings,
        "answers": {model: figures.model_dump(mode="json") for model, figures in result.answers.items()},
        "data": dict(data),
        "data_check": dict(data_check),
        "training": training,
        "probe": {**dict.fromkeys(DriftResult.model_fields if drift else ()), **_drift(drift)},
    }


def _worse_than_prompted(result: EvalResult, candidate: str) -> int | None:
    """How many metrics of a candidate are credibly worse than the best prompt's; None where they are not compared."""
    pair = ModelPair(candidate, PROMPTED)
    compared = [difference for row in result.table for difference in row.further if difference.pair == pair]
    return _credible(compared)["metrics_worse"] if compared else None


def _slices(slices: Slices | None) -> FigureTree:
    """How many figures of all slices are credibly worse, and the lowest difference and win rate of a slice."""
    if slices is None:
        return {}
    deltas = [d.delta.value for s in slices.slices for d in s.differences if d.delta.value is not None]
    rates = [s.win_rate.value for s in slices.slices if s.win_rate is not None and s.win_rate.value is not None]
    figures = worse_counts(slices), min(deltas, default=None), min(rates, default=None)
    return dict(zip(SLICE_FIGURES, figures, strict=True))


def _not_judged(pair: ModelPair, arms: Iterable[str]) -> dict[str, None]:
    """Pairs that a criterion may ask for in SFT's case although they are judged for DPO alone."""
    if pair != SFT_OVER_BASE:
        return {}
    return {str(pair): None, **{f"sft_vs_{arm}": None for arm in arms}}


def _row(row: TableRow) -> FigureTree:
    figures = row.model_dump(mode="json")
    if figures["sft_over_base"] is not None:  # Holm's correction is over DPO's differences
        figures["sft_over_base"]["p_holm"] = None
    return figures


def _drift(drift: Drift) -> FigureTree:
    return {
        name: _interval(figure)
        if isinstance(figure, Interval)
        else {model: _interval(interval) for model, interval in figure.items()}
        for name, figure in drift.items()
    }


def _interval(interval: Interval) -> FigureTree:
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}


def _credible(differences: Sequence[MetricDifference]) -> dict[str, int]:
    """How many declared metrics have their whole interval below 0, and above it."""
    deltas = [difference.delta for difference in differences]
    return {
        "metrics_worse": sum(delta.high is not None and delta.high < 0 for delta in deltas),
        "metrics_better": sum(delta.low is not None and delta.low > 0 for delta in deltas),
    }


def path_for(path: str, pair: ModelPair, metrics: Iterable[str] = ()) -> str:
    """The figure that a criterion, which is written for DPO, names where it is asked of the candidate of `pair`.

    SFT stands in DPO's place and the base in SFT's: `table.format.dpo` becomes `table.format.sft`, and
    `pairwise.dpo_vs_sft.low` becomes `pairwise.sft_vs_base.low`.

    Args:
        metrics: names of the table's rows, which may hold dots.
    """
    if pair.candidate == "dpo":
        return path
    room, first, *below = [*split_path(path, {"table": dict.fromkeys(metrics)}), ""]
    last = ".".join(name for name in below if name)
    models = {"dpo": pair.candidate, "sft": pair.reference}
    if room == "pairwise" and first in (str(DPO_OVER_SFT), str(DPO_OVER_BASE)):
        return ".".join(part for part in (room, str(pair), last) if part)
    if room in ("pairwise", "differences") and first.startswith("dpo_vs_"):
        return ".".join(part for part in (room, f"{pair.candidate}_vs_{first.removeprefix('dpo_vs_')}", last) if part)
    if room == "arms":
        return ".".join(part for part in (room, models.get(first, first), last) if part)
    if room == "answers":
        return ".".join(part for part in (room, models.get(first, first), last) if part)
    if room != "table":
        return path
    model, _, end = last.partition("_")
    if model in (*models, "base") and end in ("", "low", "high"):
        return f"table.{first}.{models.get(model, model)}" + (f"_{end}" if end else "")
    if last.startswith("sft_over_base"):
        return path
    return ".".join(part for part in (room, first, "sft_over_base", last) if part)


def is_compared(path: str) -> bool:
    """Whether a figure rests on the eval prompts, so that too few of them are no evidence."""
    return path.startswith(_COMPARED)


def look_up(path: str, figures: FigureTree) -> tuple[float | None, FigureTree]:
    """A figure, and those beside it; None where it, or what it belongs to, has no value in this run.

    Raises:
        ConfigError: if there is no such figure, or it is no number.
    """
    node: FigureTree | JsonValue = figures
    siblings: FigureTree = figures
    for part in split_path(path, figures):
        if node is None:
            return None, {}
        if not isinstance(node, Mapping) or part not in node:
            known = some(node, 12) if isinstance(node, Mapping) else "nothing below it"
            raise ConfigError(
                f"there is no figure {path}", where="gate.criteria", remedy=f"at {part} there are: {known}"
            )
        siblings, node = node, node[part]
    if node is None:
        return None, siblings
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise ConfigError(f"the figure {path} is no number", where="gate.criteria")
    return node, siblings


def pair_faults(train: Sequence[Preference], validation: Sequence[Preference]) -> dict[str, int]:
    """Pairs that teach nothing or the wrong thing, prompts on both sides of the split, and `failed`, their sum."""
    both = [*train, *validation]
    directions = {(p.prompt.id, p.chosen, p.rejected) for p in both}
    faults = {
        "equal_answers": sum(p.chosen.strip() == p.rejected.strip() for p in both),
        "empty_chosen": sum(not p.chosen.strip() for p in both),
        "contradicted": sum((p.prompt.id, p.rejected, p.chosen) in directions for p in both if p.chosen != p.rejected),
        "train_in_validation": len({p.prompt.id for p in train} & {p.prompt.id for p in validation}),
    }
    return {**faults, "failed": sum(faults.values())}
