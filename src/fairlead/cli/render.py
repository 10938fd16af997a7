"""Results for people: the figures of a stage in words, and the tables of the gate, the report and the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from fairlead.cli.common import open_project, out, print_json, print_line
from fairlead.files import read_json
from fairlead.pipeline.artifacts import Artifact
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
    artifact = open_project(folder).run(stage, force=[stage] if force else [])[stage]
    figures = {"stage": stage, "artifact": str(artifact.path), "hash": artifact.hash, **artifact.manifest.figures}
    print_json(figures) if as_json else show_figures(figures)


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


def show_decision_of(stage: str, artifact: Artifact) -> None:
    """Shows the decision when it is made: what follows takes longer, or refuses."""
    from fairlead.cli.decide import show_decision
    from fairlead.decide.permission import read_decision

    if stage == "decide":
        show_decision(read_decision(artifact))


def show_gate(record: Mapping[str, Any]) -> None:
    from fairlead.gate.output import demanded

    table = Table("figure", "demanded", "found", "status")
    for c in record["criteria"]:
        found = "—" if c["value"] is None else f"{c['value']:.4g}"
        table.add_row(c["figure"], demanded(c), found, f"{c['status']} {c['reason']}".strip())
    out.print(table)
    print_line(f"gate: {record['status']}; {record['advice']}")


def show_report(folder: Path) -> None:
    """The table, the gate's verdict, and where the report is."""
    content = read_json(folder / "report" / "report.json")
    print_line(content["decision"]["lines"][0])
    table = Table("Metric", "Base", "SFT", "SFT+DPO", "Δ DPO over SFT", "n", "missing")
    for row in content["table"]:
        values = ["—" if row[v] is None else f"{row[v]:.3f}" for v in ("base", "sft", "dpo")]
        delta = "—" if row["delta"] is None else f"{row['delta']:+.3f}"
        if row["delta_low"] is not None:
            delta += f" [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"
        table.add_row(row["metric"], *values, f"{delta} {row['word']}", str(row["n"]), str(row["missing"]))
    out.print(table)
    for name, pair in content["pairwise"].items():
        if pair["win_rate"] is not None:
            interval = "" if pair["low"] is None else f" [{pair['low']:.3f}, {pair['high']:.3f}]"
            print_line(
                f"{name.replace('_', ' ')}: win rate {pair['win_rate']:.3f}{interval} {pair['word']}, n {pair['n']}, "
                f"{pair['missing']} missing (at worst {pair['worst']:.3f}, at best {pair['best']:.3f})"
            )
    for warning in content["warnings"]:
        print_line(f"warning {warning['name']}: {warning['text']}")
    show_gate(content["gate"])
    print_line(f"report: {folder / 'report' / 'report.md'}")
