"""Results for people: the figures of a stage in words, and the tables of the gate, the report and the status."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from fairlead.cli.common import open_project, out, print_json, print_line
from fairlead.documents.evaluation import Caveat, EvalResult
from fairlead.documents.gate import GateRecord
from fairlead.documents.report import GateSummary, PairFigures, Report, TableRow
from fairlead.pipeline.artifacts import Artifact
from fairlead.pipeline.project import Project
from fairlead.pipeline.status import StageStatus

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
    table = Table("stage", "state", "figure", "seconds", "why")
    for row in rows:
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        table.add_row(row.stage, row.state, row.headline, seconds, row.why)
    out.print(table)


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
    table = Table("figure", "demanded", "found", "status")
    for result in gate.criteria:
        measured = "—" if result.value is None else f"{result.value:.4g}"
        table.add_row(result.figure, result.demanded, measured, f"{result.status} {result.reason}".strip())
    out.print(table)
    print_line(f"gate: {gate.status}; {gate.advice}")


def show_report(folder: Path) -> None:
    """The table, the gate's verdict, and where the report is."""
    report = Report.read(folder / "report" / "report.json")
    print_line(report.decision.lines[0])
    _show_tables(report.table, report.pairwise, report.warnings)
    show_gate(report.gate)
    print_line(f"report: {folder / 'report' / 'report.md'}")


def show_comparison(result: EvalResult) -> None:
    """Metrics, win rates and caveats of a comparison."""
    pairwise = {str(of_pair.pair): PairFigures.of(of_pair) for of_pair in result.pairwise}
    _show_tables(tuple(map(TableRow.of_row, result.table)), pairwise, result.caveats)
    print_line(f"{result.prompts} prompts, {result.missing:.1%} of the judgements missing")


def _show_tables(rows: tuple[TableRow, ...], pairwise: Mapping[str, PairFigures], caveats: tuple[Caveat, ...]) -> None:
    table = Table("Metric", "Base", "SFT", "SFT+DPO", "Δ DPO over SFT", "n", "missing")
    for row in rows:
        values = ["—" if value is None else f"{value:.3f}" for value in (row.base, row.sft, row.dpo)]
        delta = "—" if row.delta is None else f"{row.delta:+.3f}"
        if row.delta_low is not None:
            delta += f" [{row.delta_low:+.3f}, {row.delta_high:+.3f}]"
        table.add_row(row.metric, *values, f"{delta} {row.word}", str(row.n), str(row.missing))
    out.print(table)
    for name, figures in pairwise.items():
        if figures.win_rate is not None:
            interval = "" if figures.low is None else f" [{figures.low:.3f}, {figures.high:.3f}]"
            print_line(
                f"{name.replace('_', ' ')}: win rate {figures.win_rate:.3f}{interval} {figures.word}, n {figures.n}, "
                f"{figures.missing} missing (at worst {figures.worst:.3f}, at best {figures.best:.3f})"
            )
    for caveat in caveats:
        print_line(f"warning {caveat.name}: {caveat.text}")
