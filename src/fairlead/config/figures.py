"""The figures that a criterion of the gate may name, as a tree of their names.

The tree is made from the config and from the types of what the stages write, so that a criterion on a figure that the
project cannot measure is refused before anything has run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, Union, get_type_hints

from fairlead.config.base import alternatives
from fairlead.config.evaluation import ProbeSettings
from fairlead.config.values.arms import PROMPTED
from fairlead.documents.base import Document
from fairlead.documents.drift import general_fields
from fairlead.documents.evaluation import CAVEATS, SHARED_JUDGE, AnswerFigures
from fairlead.documents.pairs import PairCounts, PairOutcome
from fairlead.documents.report import ARM_COSTS, IN_TABLE, DifferenceFigures, PairFigures, TableRow
from fairlead.documents.training import DpoFigures, LabelNoiseFigures, SftFigures
from fairlead.errors import known_names
from fairlead.records import Interval, VerdictState

Names: TypeAlias = Mapping[str, Union["Names", None]]
"""Names of figures; below a name there is None where it is a number, else more names."""

SLICE_FIGURES = ("worse", "worst_delta", "worst_win_rate")
WORSE_THAN_PROMPTED = "metrics_worse_than_prompted"
COUNTED = ("missing", "verdicts", "prompts", "metrics_worse", "metrics_better", "leaks", SHARED_JUDGE)
DATA_FAULTS = ("equal_answers", "empty_chosen", "contradicted", "train_in_validation", "failed")
_ROWS: dict[str, type[Document]] = {"table": TableRow, "pairwise": PairFigures}


def split_path(path: str, tree: Mapping[str, Any]) -> list[str]:
    """The names that a dotted path is made of; the names of metrics may hold dots, so the longest that fits counts."""
    names: list[str] = []
    node: Any = tree
    while path:
        fitting = [name for name in node if path == name or path.startswith(f"{name}.")] if _has_names(node) else []
        name = max(fitting, key=len) if fitting else path.partition(".")[0]
        names.append(name)
        node = node[name] if fitting else None
        path = path[len(name) + 1 :]
    return names


def _has_names(node: object) -> bool:
    return isinstance(node, Mapping)


def why_unmeasured(figure: str, measured: Names, *, margin: bool) -> str | None:
    """What is wrong with a figure that a criterion names; None if it can be measured.

    Args:
        margin: the figure is that of `not_worse_by`, which names a row and not a number.
    """
    node: Names | None = measured
    above: list[str] = []
    for name in split_path(figure, measured):
        place = f"{'.'.join(above)}: " if above else ""
        if node is None:
            return f"is not measured, {'.'.join(above)} is a number and has nothing below it"
        if name not in node:
            known = known_names(name, node)
            return f"is not measured ({place}{known})" if place else f"is not measured, {known}"
        node = node[name]
        above.append(name)
    if margin:
        return None if len(above) == 2 and above[0] in _ROWS else "is no row: not_worse_by needs one"
    return None if node is None else f"names no figure: name one below it, such as {figure}.{_example(node)}"


def _example(names: Names) -> str:
    """A figure below these names, one that people are likely to mean."""
    name = next((name for name in ("dpo", "win_rate", "validation_loss", "value") if name in names), next(iter(names)))
    below = names[name]
    return name if below is None else f"{name}.{_example(below)}"


def is_of_a_row(figure: str) -> bool:
    """Whether a figure stands inside a row of the table or of the pairs, as far as its last name tells."""
    room, _, rest = figure.partition(".")
    row, _, last = rest.rpartition(".")
    return room in _ROWS and bool(row) and last in _ROWS[room].model_fields


def measured_figures(
    *,
    metrics: Sequence[str],
    pairwise: Sequence[str],
    arms: Sequence[str],
    sliced: bool,
    labelled: bool,
    with_sft: bool,
    trained: Collection[str],
    judged_pairs: bool,
    dropped: Sequence[str],
    label_noise: bool,
    probe: ProbeSettings | None,
) -> Names:
    """Every figure that a project measures.

    Args:
        metrics: rows of the table.
        arms: of the comparison, besides the project's models.
        sliced: whether the comparison is made slice by slice too.
        labelled: whether people have labelled answers.
        trained: which of sft and dpo are trained here; of one made elsewhere no training is measured, and a DPO model
            made elsewhere has no pairs here.
        judged_pairs: whether the pairs are made of verdicts, and not imported.
        dropped: the checks whose faulty pairs are left out.
        label_noise: whether DPO's loss is given the measured error of the labels.
    """
    models = ("base", "sft", "dpo") if with_sft else ("base", "dpo")
    tree: dict[str, Names | None] = {
        **numbers(COUNTED),
        **numbers([WORSE_THAN_PROMPTED] if PROMPTED in arms else ()),
        "table": {metric: _table_row(models) for metric in metrics},
        "pairwise": {pair: _pair(labelled=labelled) for pair in pairwise},
        "slices": numbers(SLICE_FIGURES if sliced else ()),
        "warnings": numbers(CAVEATS),
        "answers": {model: names_of(AnswerFigures) for model in (*models, *arms)},
        "arms": {arm: _arm(metrics) for arm in (*models, *arms)},
        "differences": {
            pair: dict.fromkeys(metrics, names_of(DifferenceFigures))
            for pair in pairwise
            if pair not in (IN_TABLE if with_sft else ("dpo_vs_base",))
        },
        "data": numbers(DATA_FAULTS if "dpo" in trained else ()),
        "data_check": numbers(("failed", "warned") if "dpo" in trained else ()),
        "training": {
            **({"sft": names_of(SftFigures)} if "sft" in trained else {}),
            **(_of_dpo(judged_pairs, dropped, label_noise=label_noise) if "dpo" in trained else {}),
        },
    }
    if probe is not None:
        tree["probe"] = _drift(probe, models)
    return _without_empty(tree)


def _arm(metrics: Sequence[str]) -> Names:
    """What is measured of an arm; a thousand answers have a cost where the config gives prices."""
    return {**numbers(ARM_COSTS), "metrics": dict.fromkeys(metrics, names_of(Interval))}


def _of_dpo(judged_pairs: bool, dropped: Sequence[str], *, label_noise: bool) -> dict[str, Names | None]:
    """What a DPO training and its pairs have measured."""
    pairs = {
        **names_of(PairCounts),
        "counts": numbers(PairOutcome if judged_pairs else ()),
        "dropped": numbers(dropped),
    }
    noise = names_of(LabelNoiseFigures) if label_noise else {}
    return {"pairs": _without_empty(pairs), "dpo": {**names_of(DpoFigures), **noise}}


def _pair(*, labelled: bool) -> Names:
    names = {**names_of(PairFigures), "states": numbers(VerdictState)}
    return names if labelled else {name: below for name, below in names.items() if name != "human"}


def _table_row(models: Collection[str]) -> Names:
    """A row's figures, without those of a model that the project does not have."""
    absent = {"base", "sft", "dpo"} - set(models)
    return {
        name: below
        for name, below in names_of(TableRow).items()
        if name.removesuffix("_low").removesuffix("_high") not in absent and not (name == "sft_over_base" and absent)
    }


def _drift(probe: ProbeSettings, models: Sequence[str]) -> Names:
    interval = names_of(Interval)
    by_model = dict.fromkeys(models, interval)
    over_base = {model: interval for model in models if model != "base"}
    tree: dict[str, Names | None] = {"implicit_reward_accuracy": interval}
    if probe.kl_prompts:
        tree["kl_from_reference"] = interval
    fields = [general_fields(check.name) for check in probe.task_checks]
    for of_models, change in [*fields, *([("perplexity", "perplexity_over_base")] if probe.texts else [])]:
        tree |= {of_models: by_model, change: over_base}
    return tree


def numbers(names: Iterable[str]) -> dict[str, Names | None]:
    """Names of numbers."""
    return {str(name): None for name in names}


def names_of(kind: type[Document] | type[Interval]) -> dict[str, Names | None]:
    """The names of the figures in a type of what stages write; texts, lists and free mappings are none."""
    if issubclass(kind, Document):
        hints: Mapping[str, Any] = {name: field.annotation for name, field in kind.model_fields.items()}
    else:
        types = get_type_hints(kind)
        hints = {field.name: types[field.name] for field in dataclasses.fields(kind)}
    tree: dict[str, Names | None] = {}
    for name, hint in hints.items():
        for member in alternatives(hint):
            if member in (int, float):
                tree[name] = None
            elif isinstance(member, type) and issubclass(member, Document | Interval):
                tree[name] = names_of(member)
    return tree


def _without_empty(tree: Mapping[str, Names | None]) -> dict[str, Names | None]:
    return {name: below for name, below in tree.items() if below is None or below}
