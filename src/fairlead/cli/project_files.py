"""`fairlead schema`: the keys of the config for editors, and for readers."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from fairlead.cli.common import START, print_json
from fairlead.errors import ConfigError

SchemaOf = Annotated[
    Literal["config", "report"], typer.Argument(help="config: of fairlead.yaml; report: of report.json", metavar="FILE")
]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="print the page of all keys, docs/config.md, instead")]


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
    app.command(rich_help_panel=START)(schema)
