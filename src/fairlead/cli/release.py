"""Commands of the release room: release, verify, serve, and the gate's output for CI. No logic lives here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.common import AsJson, FolderOption, err, out, print_json
from fairlead.errors import ConfigError
from fairlead.files import disk_errors
from fairlead.pipeline.project import Project
from fairlead.progress import for_console


def _print(text: str) -> None:
    out.print(text, soft_wrap=True)


def mount(app: typer.Typer) -> None:
    """`fairlead release`, `fairlead verify`, `fairlead serve`."""
    app.command("release")(release)
    app.command("verify")(verify)
    app.command("serve")(serve)


def write_gate_files(gate_folder: Path, *, junit: Path | None, markdown: Path | None) -> None:
    """Copies the gate's JUnit and Markdown to where CI looks for them."""
    for name, target in (("gate.xml", junit), ("gate.md", markdown)):
        if target is not None:
            with disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(gate_folder / name, target)


def release(
    version: Annotated[str, typer.Argument(help="name of the version, as in v0.1.0; never written twice")],
    to: Annotated[str, typer.Option("--to", help="folder, or hf://organisation/name")],
    folder: FolderOption = Path(),
    candidate: Annotated[str, typer.Option(help="dpo or sft")] = "dpo",
    merged: Annotated[bool, typer.Option("--merged", help="full weights instead of the adapter")] = False,
    despite: Annotated[str | None, typer.Option(help="release against the evidence, and say why; for good")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="all but the last step: nothing is written")] = False,
    as_json: AsJson = False,
) -> None:
    """Release a candidate whose gate has passed, with its evidence. Refused where the evidence forbids it."""
    from fairlead.release.evidence import CANDIDATES
    from fairlead.release.export import release as run

    chosen = next((name for name in CANDIDATES if name == candidate), None)
    if chosen is None:
        raise ConfigError(f"there is no candidate {candidate!r}", remedy="use --candidate dpo or --candidate sft")
    project = Project(folder, progress=for_console(err))
    found = run(
        project,
        version,
        to,
        candidate=chosen,
        merged=merged,
        despite=despite,
        dry_run=dry_run,
        settings=project.config.release,
    )
    for problem in found["problems"]:
        err.print(f"RELEASED DESPITE THE EVIDENCE: {problem}", style="bold red", soft_wrap=True)
    for warning in found["warnings"]:
        err.print(f"warning: {warning}", soft_wrap=True)
    if as_json:
        print_json(found)
        return
    for name, digest in found["files"].items():
        _print(f"{digest[:12]}  {name}")
    _print(f"{'would release' if dry_run else 'released'} {found['candidate']} as {version}: {found['where']}")


def verify(
    folder: Annotated[Path, typer.Argument(help="a released folder")],
    as_json: AsJson = False,
) -> None:
    """Compare every byte of a released folder with its checksums, which are no signature."""
    from fairlead.release.checksums import SUMS
    from fairlead.release.checksums import verify as run

    sums = run(folder)
    if as_json:
        print_json({"folder": str(folder), "files": sums})
    else:
        _print(f"{len(sums)} files match {SUMS}; these are checksums, not a signature: compare them with the source")


def serve(
    folder: FolderOption = Path(),
    engine: Annotated[str | None, typer.Option(help="vllm or transformers; what is installed if not given")] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "localhost",
    port: Annotated[int, typer.Option(help="port to listen on")] = 8000,
) -> None:
    """Put base, SFT and DPO behind an OpenAI-compatible endpoint, as the models base, sft and dpo."""
    from fairlead.release.serve import choose_engine, server

    chosen = choose_engine(engine)
    command = server(Project(folder, progress=for_console(err)), chosen, host=host, port=port)
    _print(f"{' '.join(command.argv)}  (in {command.folder})")
    raise typer.Exit(
        subprocess.run(command.argv, cwd=command.folder, env={**os.environ, **command.env}, check=False).returncode
    )
