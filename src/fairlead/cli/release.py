"""`fairlead gate`, `ci`, `release`, `verify` and `serve`: from the verdict to a released folder and an endpoint."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated, Literal

import typer

from fairlead.cli.common import (
    RELEASE,
    AsJson,
    Force,
    NoRun,
    ProjectArgument,
    ProjectOption,
    err,
    open_project,
    print_json,
    print_line,
    run_or_read,
)
from fairlead.cli.render import show_gate
from fairlead.documents.gate import GateRecord
from fairlead.errors import ConfigError, FairleadError
from fairlead.files import read_text, write_atomic

Only = Annotated[
    Literal["github", "gitlab"] | None, typer.Option("--only", help="write the file of this service alone")
]

ci = typer.Typer(no_args_is_help=True, help="Run the gate in the CI of a repository, from the committed evidence.")


def mount(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.add_typer(ci, name="ci", rich_help_panel=RELEASE)
    for command in (gate, release, verify, serve):
        app.command(rich_help_panel=RELEASE)(command)


def write_gate_files(gate_folder: Path, *, junit: Path | None, markdown: Path | None) -> None:
    """Copies the gate's JUnit and Markdown to where CI looks for them."""
    for name, target in (("gate.xml", junit), ("gate.md", markdown)):
        if target is not None:
            write_atomic(target, read_text(gate_folder / name))


def gate(
    folder: ProjectArgument = Path(),
    junit: Annotated[Path | None, typer.Option(help="file to write as JUnit XML")] = None,
    markdown: Annotated[Path | None, typer.Option(help="file to write as Markdown")] = None,
    force: Force = False,
    no_run: NoRun = False,
    as_json: AsJson = False,
) -> None:
    """Judge the evidence. Exit status: 0 passed, 1 failed, 2 not enough evidence."""
    from fairlead.gate.criteria import EXIT_CODES
    from fairlead.release.evidence import verify_judged

    project = open_project(folder, recorded=no_run)
    artifact = run_or_read(project, "gate", force=force, no_run=no_run)
    verify_judged(project, may_lack_weights=no_run)
    write_gate_files(artifact.path, junit=junit, markdown=markdown)
    record = GateRecord.read(artifact.file("gate.json"))
    if as_json:
        print_json(record.model_dump(mode="json"))
    else:
        show_gate(record)
    raise typer.Exit(EXIT_CODES[record.status])


@ci.command("init")
def ci_init(folder: ProjectArgument = Path(), only: Only = None) -> None:
    """Write the workflows of GitHub and GitLab that run the gate without a GPU and comment its table."""
    from fairlead.release.ci.write import write_ci

    paths = write_ci(folder, ("github", "gitlab") if only is None else (only,))
    print_line(f"wrote {', '.join(map(str, paths))}")
    print_line("commit them with fairlead.yaml, fairlead.lock, the data and artifacts/; weights stay out of git")


@ci.command("comment")
def ci_comment(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the file that fairlead gate --markdown wrote")],
) -> None:
    """Write a file as the comment of the pull or merge request that a CI job runs for."""
    from fairlead.release.ci.comment import thread_of, write_comment

    print_line(f"comment {write_comment(thread_of(os.environ), read_text(file))}")


def release(
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="name of the version, such as v0.1.0; it is never overwritten")
    ],
    to: Annotated[str, typer.Option("--to", help="folder, or hf://organisation/name")],
    folder: ProjectOption = Path(),
    candidate: Annotated[str, typer.Option(help="dpo or sft")] = "dpo",
    merged: Annotated[bool, typer.Option("--merged", help="full weights instead of the adapter")] = False,
    despite: Annotated[
        str | None, typer.Option(help="release against the evidence, for this reason, which stays in the model card")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="do everything but the last step: nothing is written or uploaded")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a candidate that has passed the gate to a folder or a hub, with its evidence."""
    from fairlead.release.evidence import CANDIDATES
    from fairlead.release.export import release as run

    chosen = next((name for name in CANDIDATES if name == candidate), None)
    if chosen is None:
        raise ConfigError(f"there is no candidate {candidate!r}", remedy="use --candidate dpo or --candidate sft")
    project = open_project(folder)
    result = run(
        project,
        version,
        to,
        candidate=chosen,
        merged=merged,
        despite=despite,
        dry_run=dry_run,
        settings=project.config.release,
    )
    for problem in result.problems:
        err.print(f"RELEASED DESPITE THE EVIDENCE: {problem}", style="bold red", soft_wrap=True)
    for warning in result.warnings:
        err.print(f"warning: {warning}", soft_wrap=True)
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    for name, digest in result.files.items():
        print_line(f"{digest[:12]}  {name}")
    print_line(f"{'would release' if dry_run else 'released'} {result.candidate} as {version}: {result.where}")


def verify(
    folder: Annotated[Path, typer.Argument(metavar="RELEASE", help="a released folder")],
    as_json: AsJson = False,
) -> None:
    """Compare every file of a released folder with its checksums; they are not a signature."""
    from fairlead.release.checksums import SUMS
    from fairlead.release.checksums import verify as run

    sums = run(folder)
    if as_json:
        print_json({"folder": str(folder), "files": sums})
    else:
        print_line(
            f"{len(sums)} files match {SUMS}; these are checksums, not a signature: compare them with the source"
        )


def serve(
    folder: ProjectArgument = Path(),
    engine: Annotated[str | None, typer.Option(help="vllm or transformers (default: vllm if it is installed)")] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "localhost",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on")] = 8000,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="web page whose scripts may call it, as http://localhost:3000")
    ] = None,
) -> None:
    """Serve base, SFT and DPO through an OpenAI-compatible endpoint, as the models base, sft and dpo."""
    from fairlead.release.serve import choose_engine, example_call, server

    chosen = choose_engine(engine)
    command = server(open_project(folder), chosen, host=host, port=port, origins=allow_origin or ())
    print_line(f"{' '.join(command.argv)}  (in {command.folder})")
    for line in example_call(host, port, command.models).splitlines():
        print_line(line)
    server_status = subprocess.run(
        command.argv, cwd=command.folder, env={**os.environ, **command.env}, check=False
    ).returncode
    if server_status > 0:  # below 0 a signal ended it
        raise FairleadError(
            f"the server {chosen} ended with exit status {server_status}", remedy="its lines above say why"
        )
