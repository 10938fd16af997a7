"""`fairlead init` and `fairlead check`: a new project, and whether it can run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.common import START, AsJson, Offline, ProjectArgument, err, open_project, out, print_json, print_line
from fairlead.errors import ConfigError, FairleadError

Full = Annotated[bool, typer.Option("--full", help="write every key with its default and what it does")]
FromExample = Annotated[
    str | None,
    typer.Option("--from", metavar="EXAMPLE", help="chat, triage or pairs: a project of ten rows that runs as it is"),
]


def init(folder: ProjectArgument, full: Full = False, example: FromExample = None) -> None:
    """Write a fairlead.yaml of the keys that people set, or an example project."""
    from fairlead.starters import write

    if full and example is not None:
        raise ConfigError("--full and --from are two ways to begin", where="fairlead init", remedy="leave out one")
    if example is not None:
        _example(folder, example)
        return
    [path] = write.write_full(folder) if full else write.write_short(folder)
    print_line(f"wrote {path}; edit it, then: fairlead check {folder}")


def _example(folder: Path, name: str) -> None:
    from fairlead.progress import for_console
    from fairlead.starters import write

    paths = write.write_example(folder, name)
    from fairlead.starters.stand_in import train_stand_in  # loads torch; a wrong name needs no wait

    model = train_stand_in(folder, progress=for_console(err))
    print_line(f"wrote {', '.join(str(path.relative_to(folder)) for path in paths)} and {model.name}/ in {folder}")
    print_line(f"run it as it is: fairlead run {folder}")


def check(
    folder: ProjectArgument = Path(),
    until: Annotated[str | None, typer.Option(help="last stage that is to run")] = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """List everything that would stop a run, and what it would cost and take. Exit status 0: nothing; 3: problems."""
    from fairlead.cli.preflight import show_preflight
    from fairlead.preflight.check import check as examine

    preflight = examine(open_project(folder), until, offline=offline)
    if as_json:
        print_json(asdict(preflight))
    else:
        show_preflight(preflight, to=out, everything=True)
    raise typer.Exit(FairleadError.exit_code if preflight.problems else 0)


def mount(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(rich_help_panel=START)(init)
    app.command(rich_help_panel=START)(check)
