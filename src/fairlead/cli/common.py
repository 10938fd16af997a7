"""What all commands share: the two consoles, JSON, and the options that many have."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from fairlead import escape
from fairlead.pipeline.project import Project
from fairlead.progress import for_console

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


def open_project(folder: Path, *, recorded: bool = False) -> Project:
    """The project in a folder; its work is shown on standard error.

    Args:
        recorded: take the hash of a file that is not here from `fairlead.lock`.
    """
    return Project(folder, progress=for_console(err), recorded=recorded)
