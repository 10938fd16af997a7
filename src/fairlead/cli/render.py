"""Figures as people read them: rounded, with their interval and n, and no Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from fairlead.cli.common import out, print_line
from fairlead.documents.evaluation import Caveat
from fairlead.documents.gate import CriterionResult
from fairlead.documents.report import PairFigures, Report, TableRow


def value_text(value: Any) -> str:
    """A figure, or what a stage measured: numbers with four digits, intervals with their ends and n."""
    if value is None:
        return "—"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        if {"value", "low", "high", "n"} <= value.keys():
            return interval_text(value["value"], value["low"], value["high"], value["n"])
        return ", ".join(f"{str(key).replace('_', ' ')} {value_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value)) or "none"
    return str(value)


def interval_text(value: float | None, low: float | None, high: float | None, n: int) -> str:
    ends = "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"
    return f"{value_text(value)}{ends}, n {n}"


def print_figures(figures: Mapping[str, Any]) -> None:
    """One line for each figure."""
    for key, value in figures.items():
        print_line(f"{key.replace('_', ' ')}: {value_text(value)}")


def comparison_table(rows: tuple[TableRow, ...]) -> Table:
    table = Table("Metric", "Base", "SFT", "SFT+DPO", "Δ DPO over SFT", "n", "missing")
    for row in rows:
        values = ["—" if value is None else f"{value:.3f}" for value in (row.base, row.sft, row.dpo)]
        delta = "—" if row.delta is None else f"{row.delta:+.3f}"
        if row.delta_low is not None:
            delta += f" [{row.delta_low:+.3f}, {row.delta_high:+.3f}]"
        table.add_row(row.metric, *values, f"{delta} {row.word}", str(row.n), str(row.missing))
    return table


def pair_line(name: str, figures: PairFigures) -> str:
    """The win rate of one pair, in a line."""
    interval = "" if figures.low is None else f" [{figures.low:.3f}, {figures.high:.3f}]"
    return (
        f"{name.replace('_', ' ')}: win rate {figures.win_rate:.3f}{interval} {figures.word}, n {figures.n}, "
        f"{figures.missing} missing (at worst {figures.worst:.3f}, at best {figures.best:.3f})"
    )


def print_comparison(
    table: tuple[TableRow, ...], pairwise: Mapping[str, PairFigures], caveats: tuple[Caveat, ...]
) -> None:
    """Metrics as a table, win rates and caveats as lines."""
    out.print(comparison_table(table))
    for name, figures in pairwise.items():
        if figures.win_rate is not None:
            print_line(pair_line(name, figures))
    for caveat in caveats:
        print_line(f"warning {caveat.name}: {caveat.text}")


def print_gate(status: str, advice: str, criteria: tuple[CriterionResult, ...]) -> None:
    """The criteria as a table, and what follows from them."""
    table = Table("figure", "demanded", "found", "status")
    for result in criteria:
        found = "—" if result.value is None else f"{result.value:.4g}"
        table.add_row(result.figure, result.demanded, found, f"{result.status} {result.reason}".strip())
    out.print(table)
    print_line(f"gate: {status}; {advice}")


def print_report(report: Report) -> None:
    """The decision, the comparison and the gate's verdict."""
    lines = report.decision["lines"]
    if isinstance(lines, list) and lines:
        print_line(str(lines[0]))
    print_comparison(report.table, report.pairwise, report.warnings)
    print_gate(report.gate.status, report.gate.advice, report.gate.criteria)
