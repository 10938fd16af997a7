"""What all commands share: the two consoles, JSON, tables for a terminal of 80 columns, and common options."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from fairlead import escape
from fairlead.pipeline.artifacts import Artifact
from fairlead.pipeline.project import Project
from fairlead.progress import for_console
from fairlead.records import Interval

ProjectArgument = Annotated[Path, typer.Argument(metavar="PROJECT", help="project folder: the one with fairlead.yaml")]
ProjectOption = Annotated[
    Path, typer.Option("--project", "-C", metavar="PROJECT", help="project folder: the one with fairlead.yaml")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Force = Annotated[bool, typer.Option("--force", help="run the stage even if it is up to date")]
JustEstimate = Annotated[bool, typer.Option("--estimate", help="print what the judge would cost, and run nothing")]

# The groups in which the help lists the commands.
START = "Start"
WHOLE_PROJECT = "The whole project"
BEFORE_TRAINING = "Before training"
TRAINING = "Training"
EVALUATION = "Evaluation"
RELEASE = "Release"
NoRun = Annotated[
    bool, typer.Option("--no-run", help="train nothing and ask no judge: refuse if a stage before is out of date")
]
Offline = Annotated[bool, typer.Option("--offline", help="check without asking endpoints or the hub")]

# Exit statuses beside those of the errors (3 and more) and those of the gate, to which 0, 1 and 2 belong.
NOT_PASSED = 5  # a check was made and not passed: of data, or of a judge
USAGE_ERROR = 64  # as in sysexits.h
BUG = 70
STOPPED = 130
BROKEN_PIPE = 141


class SafeConsole(Console):
    """A console that prints text as it is: no markup, and no control characters of others reach the terminal.

    Answers, data and file names hold whatever they hold. Rich's own control codes are segments of their own kind and
    pass.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escape.printable(segment.text), segment.style)


out = SafeConsole()
err = SafeConsole(stderr=True)


def print_line(text: str, *, to: Console = out, style: str | None = None) -> None:
    """Prints text as it is, on one line however long it is."""
    to.print(text, soft_wrap=True, style=style)


def print_json(value: Any) -> None:
    """Prints JSON to standard output."""
    sys.stdout.write(escape.json_text(json.dumps(value, ensure_ascii=False, indent=2)) + "\n")


def run_or_read(project: Project, stage: str, *, force: bool, no_run: bool) -> Artifact:
    """The artifact of a stage that costs nothing: made with all that it needs, or from what the stages before made."""
    if no_run:
        return project.run_alone(stage, force=force)
    return project.run(stage, force=[stage] if force else [])[stage]


def open_project(folder: Path, *, recorded: bool = False) -> Project:
    """The project in a folder; its work is shown on standard error.

    Args:
        recorded: take the hash of a file that is not here from `fairlead.lock`.
    """
    return Project(folder, progress=for_console(err), recorded=recorded)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: Iterable[str] = ()) -> None:
    """Prints a table without frames; a column in which no row has anything is left out.

    Args:
        words: columns of names and sentences, which are broken to fit; figures stay whole.
    """
    cells = [list(row) for row in rows]
    filled = [n for n in range(len(columns)) if any(row[n] for row in cells)]
    broken = set(words)
    if not filled:
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for n in filled:
        table.add_column(Text(columns[n]), no_wrap=columns[n] not in broken, overflow="fold")
    for row in cells:
        table.add_row(*(Text(row[n]) for n in filled))
    out.print(table)
    out.print()


def value_text(value: float | None, form: str = ".3f") -> str:
    """A rounded figure; a dash where there is none."""
    return "—" if value is None else f"{value:{form}}"


def bounds_text(low: float | None, high: float | None, form: str = ".3f") -> str:
    """The ends of an interval; a dash where there are none."""
    return "—" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def interval_text(value: float | None, low: float | None, high: float | None, form: str = ".3f") -> str:
    """A figure with its interval, where it has one."""
    return value_text(value, form) + ("" if low is None or high is None else f" {bounds_text(low, high, form)}")


def interval_cells(interval: Interval, form: str = ".3f") -> tuple[str, str, str]:
    """Value, interval and n, for three columns."""
    return value_text(interval.value, form), bounds_text(interval.low, interval.high, form), str(interval.n)


def count_text(count: int | None) -> str:
    """A count as people read it: 950, 12,300, 1.23 M; a dash where it is not known."""
    if count is None:
        return "—"
    return f"{count:,}" if count < 1_000_000 else f"{count / 1e6:.3g} M"
