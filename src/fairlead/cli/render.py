"""Results for people: the figures of a stage in words, and the tables of the gate, the report and the status."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairlead.cli.common import bounds_text, interval_text, open_project, print_json, print_line, show_table, value_text
from fairlead.config.values.arms import MODELS
from fairlead.documents.evaluation import Caveat, Conclusion, EvalResult
from fairlead.documents.gate import GateRecord
from fairlead.documents.imported import ImportedComparison
from fairlead.documents.report import ArmFigures, DifferenceFigures, GateSummary, PairFigures, Report, TableRow
from fairlead.pipeline.artifacts import Artifact
from fairlead.pipeline.project import Project
from fairlead.pipeline.status import StageStatus
from fairlead.report.arms import COSTS, cost_cells, in_order, title_of, worth_it

_MOST_ITEMS = 8


def figure(value: Any) -> str:
    """A figure in words: four digits, an interval as `0.61 [0.52, 0.70], n 120`, a dash where there is none."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        if {"value", "low", "high", "n"} <= value.keys():
            return _interval(value)
        return ", ".join(f"{str(name).replace('_', ' ')} {figure(item)}" for name, item in value.items()) or "none"
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        more = f" and {len(value) - _MOST_ITEMS} more" if len(value) > _MOST_ITEMS else ""
        return (", ".join(map(figure, value[:_MOST_ITEMS])) + more) or "none"
    return str(value)


def _interval(value: Mapping[str, Any]) -> str:
    bounds = "" if value["low"] is None else f" [{figure(value['low'])}, {figure(value['high'])}]"
    return f"{figure(value['value'])}{bounds}, n {value['n']}"


def run_stage(folder: Path, stage: str, *, force: bool, as_json: bool) -> None:
    """Runs one stage and what it needs, and prints its figures."""
    from fairlead.cli.preflight import demand_ready

    project, forced = open_project(folder), [stage] if force else []
    demand_ready(project, stage, force=forced, offline=False)
    artifact = project.run(stage, force=forced)[stage]
    figures = figures_of(artifact)
    print_json(figures) if as_json else show_figures(figures)


def figures_of(artifact: Artifact) -> dict[str, Any]:
    """What a stage measured, with where its files are."""
    manifest = artifact.manifest
    return {"stage": manifest.stage, "artifact": str(artifact.path), "hash": artifact.hash, **manifest.figures}


def show_figures(figures: Mapping[str, Any]) -> None:
    """One line per figure."""
    for name, value in figures.items():
        print_line(f"{name.replace('_', ' ')}: {figure(value)}")


def show_status(rows: Sequence[StageStatus]) -> None:
    show_table(
        ("stage", "state", "figure", "seconds", "why"),
        [
            (row.stage, row.state, row.headline, "" if row.seconds is None else f"{row.seconds:.1f}", row.why)
            for row in rows
        ],
        words=("figure", "why"),
    )


def show_new_decision(project: Project) -> Callable[[str, Artifact], None]:
    """For `Project.run`: shows the decision when it is made, because what follows takes longer, or refuses."""
    from fairlead.cli.decide import show_decision
    from fairlead.decide.permission import read_decision

    def show(stage: str, artifact: Artifact) -> None:
        if stage == "decide" and stage in project.ran:
            show_decision(read_decision(artifact))

    return show


def show_gate(gate: GateRecord | GateSummary) -> None:
    """The criteria of DPO as a table, and what follows from them."""
    show_table(
        ("figure", "demanded", "found", "status"),
        [(result.figure, result.demanded, figure(result.value), result.status) for result in gate.criteria],
        words=("figure", "demanded"),
    )
    for result in gate.criteria:
        if result.reason:
            print_line(f"{result.figure}: {result.reason}")
    print_line(f"gate: {gate.status}; {gate.advice}")


def show_report(folder: Path) -> None:
    """The table, the gate's verdict, and where the report is."""
    report = Report.read(folder / "report" / "report.json")
    print_line(report.decision.lines[0])
    show_tables(report.table, report.pairwise, report.warnings)
    show_arms(report)
    show_gate(report.gate)
    print_line(f"report: {folder / 'report' / 'report.md'}")


def show_arms(report: Report) -> None:
    """What every arm is and costs, and whether DPO beats the best prompt; nothing where there are only the models."""
    if not set(report.arms) - set(MODELS):
        return
    show_table_of_arms(report.arms, [row.metric for row in report.table])
    for name, arm in report.arms.items():
        if name not in MODELS:
            print_line(f"{title_of(name)}: {arm.what}")
    if (sentence := worth_it(report)) is not None:
        print_line(sentence.replace("`", ""))


def show_table_of_arms(arms: Mapping[str, ArmFigures], metrics: Sequence[str]) -> None:
    """The means of every arm, and below what an answer takes; side by side they do not fit into 80 columns."""
    rows = in_order(arms)
    show_table(
        ("arm", *metrics),
        [
            (
                title_of(name),
                *(value_text(mean.value) if (mean := arm.metrics.get(metric)) else "—" for metric in metrics),
            )
            for name, arm in rows.items()
        ],
        words=("arm",),
    )
    show_table(("an answer takes", *COSTS), [(title_of(name), *cost_cells(arm)) for name, arm in rows.items()])


def show_imported(comparison: ImportedComparison) -> None:
    """Win rates, differences and caveats of models from elsewhere."""
    show_pairs({name.replace("_vs_", " vs "): figures for name, figures in comparison.pairwise.items()})
    show_table(
        ("metric", "compared", "Δ", "shown", "n"),
        [
            (
                row.metric,
                f"{row.first} over {row.second}",
                interval_text(row.delta, row.delta_low, row.delta_high, "+.3f"),
                shown(row),
                str(row.n),
            )
            for row in comparison.table
        ],
        words=("metric", "compared"),
    )
    for caveat in comparison.warnings:
        print_line(f"warning {caveat.name}: {caveat.text}")


def show_comparison(result: EvalResult) -> None:
    """Metrics, win rates and caveats of a comparison."""
    pairwise = {str(of_pair.pair): PairFigures.of(of_pair) for of_pair in result.pairwise}
    show_tables(tuple(map(TableRow.of_row, result.table)), pairwise, result.caveats)
    print_line(f"{result.prompts} prompts, {result.missing:.1%} of the judgements missing")


def show_tables(rows: tuple[TableRow, ...], pairwise: Mapping[str, PairFigures], caveats: tuple[Caveat, ...]) -> None:
    """The metrics, the win rates and the caveats of a comparison."""
    change = "Δ DPO over SFT" if all(row.against == "sft" for row in rows) else "Δ DPO over base"
    show_table(
        ("metric", "base", "SFT", "DPO", change, "shown", "n", "missing"),
        [
            (
                row.metric,
                *map(value_text, (row.base, row.sft, row.dpo)),
                interval_text(row.delta, row.delta_low, row.delta_high, "+.3f"),
                shown(row),
                str(row.n),
                str(row.missing or ""),
            )
            for row in rows
        ],
        words=("metric",),
    )
    compared = {name.replace("_", " "): figures for name, figures in pairwise.items() if figures.win_rate is not None}
    show_pairs(compared)
    show_labels(compared)
    everything: list[DifferenceFigures | PairFigures] = [*rows, *compared.values()]
    if any(map(_not_shown, everything)):
        print_line("none (±x): no difference shown; one of x would have been seen in 8 of 10 such comparisons")
    for caveat in caveats:
        print_line(f"warning {caveat.name.replace('_', ' ')}: {caveat.text}")


def show_pairs(pairwise: Mapping[str, PairFigures]) -> None:
    """Win rates with their intervals; how far missing verdicts could move them, where any are missing."""
    if not pairwise:
        return
    show_table(
        ("compared", "win rate", "shown", "n", "missing", "at worst, at best"),
        [
            (
                name,
                interval_text(figures.win_rate, figures.low, figures.high),
                shown(figures),
                str(figures.n),
                str(figures.missing or ""),
                bounds_text(figures.worst, figures.best) if figures.missing else "",
            )
            for name, figures in pairwise.items()
        ],
        words=("compared",),
    )


def show_labels(pairwise: Mapping[str, PairFigures]) -> None:
    """The win rates by judge, by people, and by the judge corrected by people, where people labelled answers."""
    labelled = {name: figures.human for name, figures in pairwise.items() if figures.human is not None}
    show_table(
        ("compared", "judge", "people alone", "judge corrected", "labels"),
        [
            (
                name,
                interval_text(human.judge.value, human.judge.low, human.judge.high),
                interval_text(human.people.value, human.people.low, human.people.high),
                interval_text(human.win_rate, human.low, human.high),
                str(human.labels),
            )
            for name, human in labelled.items()
        ],
        words=("compared",),
    )


def shown(figures: DifferenceFigures | PairFigures) -> str:
    """What the interval shows: better, worse, none with what could have been seen; undefined without an interval."""
    if not _not_shown(figures):
        return figures.word
    return "none" if figures.detectable is None else f"none (±{figures.detectable:.3f})"


def _not_shown(figures: DifferenceFigures | PairFigures) -> bool:
    return figures.word.startswith(Conclusion.NOT_SHOWN)
