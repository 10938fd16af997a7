"""`fairlead review`: blind labels of people on the compared answers. No logic lives here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.columns import Columns
from rich.panel import Panel
from rich.text import Text

from fairlead.cli.common import EVALUATION, ProjectArgument, interval_text, open_project, out, print_line
from fairlead.errors import ConfigError, known_names
from fairlead.records import ModelPair

if TYPE_CHECKING:
    from fairlead.evaluation.human.project import LabelledPair
    from fairlead.evaluation.human.review import Question

KEYS = "1 left is better   2 right is better   0 as good   s skip   u undo   q stop"
_CHOICES: dict[str, Literal["left", "right", "tie"]] = {"1": "left", "2": "right", "0": "tie"}
_ENDS = ("q", "\x03", "\x04", "\x1b", "")  # control C and D, escape, end of input


def mount(root: typer.Typer) -> None:
    """Adds `fairlead review` to the command line."""
    root.command("review", rich_help_panel=EVALUATION)(review)


def review(
    folder: ProjectArgument = Path(),
    pair: Annotated[str, typer.Option(help="whose answers: a judged pair, such as dpo_vs_sft")] = "dpo_vs_sft",
    by: Annotated[str, typer.Option(metavar="NAME", help="who labels")] = "",
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="labels (default: eval.human, or human.jsonl in the project)")
    ] = None,
) -> None:
    """Label anonymous answers of two models; the comparison is corrected by the labels."""
    from fairlead.evaluation.human.project import labelled_pair

    if not by.strip():
        raise ConfigError("nobody is named", where="fairlead review", remedy="say who labels: --by NAME")
    project = open_project(folder)
    reviewed = labelled_pair(project, _pair(pair, project.config.judged_pairs), by.strip(), labels)
    print_line(reviewed.plan)
    review = reviewed.review
    while (question := review.question()) is not None:
        _show(question)
        key = _key()
        if key in _ENDS:
            break
        if key in _CHOICES:
            review.answer(_CHOICES[key])
        elif key == "s":
            review.skip()
        elif key == "u" and not review.undo():
            print_line("there is nothing to take back")
    else:
        print_line("all comparisons are labelled")
    _summarize(reviewed)


def _pair(text: str, known: Sequence[str]) -> ModelPair:
    """A pair of the project's arms.

    Raises:
        ConfigError: if it is not judged.
    """
    if text not in known:
        raise ConfigError(f"there is no pair {text}", where="--pair", remedy=known_names(text, known))
    return ModelPair.parse(text)


def _show(question: Question) -> None:
    out.rule(f"{question.number} of {question.of}")
    out.print(Text(question.prompt))
    panels = [Panel(Text(answer), title=title) for title, answer in (("1", question.left), ("2", question.right))]
    out.print(Columns(panels, equal=True, expand=True))
    print_line(KEYS)


def _key() -> str:
    """One key of a terminal, or one character of what is piped in."""
    if sys.stdin.isatty():
        try:
            return str(typer.getchar()).casefold()
        except (KeyboardInterrupt, EOFError):
            return "q"
    character = sys.stdin.read(1)
    while character.isspace():
        character = sys.stdin.read(1)
    return character.casefold()


def _summarize(reviewed: LabelledPair) -> None:
    figures = reviewed.figures()
    if figures is None:
        print_line(f"no labels in {reviewed.path}")
        return
    for name, interval in (
        ("judge", figures.judge),
        ("people alone", figures.people),
        ("judge corrected by people", figures.anchored),
        ("κ of people and judge", figures.kappa_judge),
        *((f"κ of {pair}", kappa) for pair, kappa in figures.kappa_people.items()),
    ):
        print_line(f"{name}: {interval_text(interval.value, interval.low, interval.high)}")
    print_line(f"{figures.labels} comparisons labelled: {reviewed.path}")
    if not reviewed.configured:
        print_line(f"put `human: {reviewed.configured_as}` under eval in fairlead.yaml, then: fairlead eval")
