"""`fairlead init`, `check` and `schema`: a new project, whether it can run, and its keys for editors and readers."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from fairlead.cli.common import START, AsJson, Offline, ProjectArgument, err, open_project, out, print_json, print_line
from fairlead.errors import ConfigError, FairleadError

Full = Annotated[bool, typer.Option("--full", help="write every key with its default and what it does")]
FromExample = Annotated[
    str | None,
    typer.Option("--from", metavar="EXAMPLE", help="chat, triage or pairs: a project of ten rows that runs as it is"),
]

SchemaOf = Annotated[
    Literal["config", "report"], typer.Argument(help="config: of fairlead.yaml; report: of report.json", metavar="FILE")
]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="print the page of all keys, docs/config.md, instead")]


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


def schema(of: SchemaOf = "config", markdown: AsMarkdown = False) -> None:
    """Print the JSON Schema of fairlead.yaml, for editors, or of report.json."""
    if of == "report":
        if markdown:
            raise ConfigError("--markdown is about fairlead.yaml alone", where="fairlead schema", remedy="leave it out")
        from fairlead.report.json_schema import report_schema

        print_json(report_schema())
    elif markdown:
        from fairlead.config.reference.page import config_page

        sys.stdout.write(config_page())
    else:
        from fairlead.config.reference.json_schema import config_schema

        print_json(config_schema())


def mount(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(rich_help_panel=START)(init)
    app.command(rich_help_panel=START)(check)
    app.command(rich_help_panel=START)(schema)
