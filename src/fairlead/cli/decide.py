"""`fairlead decide`: whether fine-tuning is needed, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from fairlead.cli.common import AsJson, ProjectArgument, open_project, out, print_json, print_line
from fairlead.documents.decision import Decision

_WIDE, _NAME_WIDTH = 110, 18  # columns of a terminal
_SHOWN = {"meets every target": "meets", "not shown either way": "not shown"}  # a terminal is narrow


def decide(
    folder: ProjectArgument = Path(),
    force: Annotated[bool, typer.Option("--force", help="measure again even if it is up to date")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure whether instructions, examples or retrieval are enough without fine-tuning."""
    from fairlead.decide.permission import read_decision

    artifact = open_project(folder).run("decide", force=["decide"] if force else [])["decide"]
    decision = read_decision(artifact)
    if as_json:
        print_json(decision.content())
        return
    show_decision(decision)
    print_line(f"decision: {artifact.path / 'decision.md'}")


def show_decision(decision: Decision) -> None:
    """The verdict, its five lines, the table and the four conditions."""
    from fairlead.decide.markdown import table

    out.print(f"decision: {decision.verdict}", style="bold")
    for line in decision.lines:
        print_line(line)
    if not decision.candidates:
        return
    header, rows = table(decision, brief=True)
    dull = [n for n, name in enumerate(header) if name == "Model" and len({row[n] for row in rows} - {"—"}) == 1]
    if out.width < _WIDE:  # decision.md has them all
        dull += [n for n, name in enumerate(header) if name in ("Malformed", "Read", "Written", "Seconds")]
    used = [n for n in range(len(header)) if n not in dull and any(row[n] != "—" for row in rows)]
    terminal_table = Table(*(header[n] for n in used), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    terminal_table.columns[0].min_width = _NAME_WIDTH
    for row in rows:
        terminal_table.add_row(*(_SHOWN.get(row[n], row[n]) for n in used))
    out.print(terminal_table)
    for condition in decision.conditions:
        text = f"{condition.name}: {condition.holds}. {condition.evidence}"
        print_line(text)
