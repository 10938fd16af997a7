"""The command line: what is common to a project's run, and the groups of commands. No logic lives here."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
import warnings
from dataclasses import asdict
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from fairlead import escape
from fairlead.cli import data, decide, evaluate, release, review, standalone, start, train
from fairlead.cli.common import (
    BEFORE_TRAINING,
    BROKEN_PIPE,
    BUG,
    START,
    STOPPED,
    USAGE_ERROR,
    WHOLE_PROJECT,
    AsJson,
    Force,
    JustEstimate,
    NoRun,
    Offline,
    ProjectArgument,
    err,
    open_project,
    print_json,
    print_line,
    run_or_read,
    show_table,
)
from fairlead.cli.judges import commands as judge_commands
from fairlead.cli.judges.estimates import show_stage_estimate
from fairlead.cli.preflight import demand_ready
from fairlead.cli.render import show_new_decision, show_report, show_status
from fairlead.errors import ConfigError, DecisionError, FairleadError
from fairlead.files import read_json
from fairlead.pipeline.project import Project

_ORDER = (
    *("demo", "init", "check", "doctor", "schema"),
    *("run", "status", "report"),
    *("data", "judge", "decide"),
    *("sft", "dpo", "sweep", "diagnose"),
    *("eval", "compare", "review", "score", "try"),
    *("gate", "ci", "release", "verify", "serve"),
)


class _Commands(TyperGroup):
    """Lists the commands in the order in which a project uses them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in _ORDER if name in self.commands]


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked_for: bool) -> None:
    if asked_for:
        print_line("fairlead " + version_of("fairlead"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Align a language model to preferences, and prove that it helped."""


start.mount(app)


@app.command(rich_help_panel=WHOLE_PROJECT)
def run(
    folder: ProjectArgument = Path(),
    until: Annotated[str | None, typer.Option(help="last stage to run")] = None,
    force: Annotated[list[str] | None, typer.Option(help="stage to run even if it is up to date")] = None,
    estimate: JustEstimate = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Run all stages that are not up to date, after a check of everything that would stop them."""
    if estimate:
        if until or force:
            raise ConfigError("--until and --force are not read beside --estimate", where="fairlead run")
        show_stage_estimate(folder, None, as_json=as_json)
        return
    from fairlead.config.reference.editor import refresh_schema

    project = open_project(folder)
    refresh_schema(folder)
    demand_ready(project, until, force=force or [], offline=offline)
    made = project.run(until, force=force or [], on_stage=None if as_json else show_new_decision(project))
    if as_json:
        print_json({name: {"hash": a.hash, "figures": dict(a.manifest.figures)} for name, a in made.items()})
    elif not project.ran:
        print_line(f"nothing to do: all {len(made)} stages are up to date; fairlead report {folder} shows the result")
    elif "report" in made:
        show_report(folder)


@app.command(rich_help_panel=WHOLE_PROJECT)
def status(folder: ProjectArgument = Path(), as_json: AsJson = False) -> None:
    """Show the state of each stage, its main figure, and why it would run again."""
    rows = Project(folder).status()
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        show_status(rows)


@app.command(rich_help_panel=WHOLE_PROJECT)
def report(
    folder: ProjectArgument = Path(), force: Force = False, no_run: NoRun = False, as_json: AsJson = False
) -> None:
    """Write report.md and report.json, and show the report."""
    run_or_read(open_project(folder, recorded=no_run), "report", force=force, no_run=no_run)
    if as_json:
        print_json(read_json(folder / "report" / "report.json"))
    else:
        show_report(folder)


@app.command(rich_help_panel=START)
def demo(
    to: Annotated[Path, typer.Option("--out", metavar="PROJECT", help="project folder to make")] = Path("demo-project"),
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="seed of the task, the model and the run")] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="a pretrained model instead of the small one that the demo trains: a hub id, a folder, a .gguf file, "
            "package:NAME/FILE, or smollm2",
        ),
    ] = None,
) -> None:
    """Make the built-in incident-triage project and run all its stages."""
    from fairlead.demo.project import make_project
    from fairlead.progress import for_console

    make_project(to, seed=seed, progress=for_console(err), model=model)
    project = open_project(to)
    try:
        if model is not None:
            demand_ready(project, None, force=(), offline=False)
        project.run(on_stage=show_new_decision(project))
        show_report(to)
    except DecisionError as error:  # prompting may be enough for a pretrained model, which is a result
        print_line(str(error))
    print_line(
        "with your own model:\n"
        "  fairlead init my-project        # write a short fairlead.yaml\n"
        "  fairlead check my-project       # all that is missing, at once, and what it will cost\n"
        "  fairlead run my-project         # all stages; you can stop and resume at any time\n"
        "  fairlead gate my-project        # exit status 0: there is evidence that it is better"
    )


@app.command(rich_help_panel=START)
def doctor(as_json: AsJson = False) -> None:
    """Show what this machine, the installed packages and the keys allow, and what is missing."""
    from fairlead.cli.doctor import examine

    findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    columns = ("what", "found", "what it means")
    show_table(columns, [(finding.what, finding.found, finding.means) for finding in findings], words=columns)


app.add_typer(data.app, name="data", rich_help_panel=BEFORE_TRAINING)
app.add_typer(judge_commands.app, name="judge", rich_help_panel=BEFORE_TRAINING)
app.command(rich_help_panel=BEFORE_TRAINING)(decide.decide)
train.mount(app)
evaluate.mount(app)
review.mount(app)
release.mount(app)
standalone.mount(app, judge=judge_commands.app, evaluation=evaluate.app, data=data.app)


def _quiet_libraries() -> None:
    """Bars and notices of the libraries would hide ours; their errors still come through."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)


def _terminate(signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(signum).name)


def main() -> None:
    """Runs the command line and exits with a status of its own for every outcome; docs/config.md lists them."""
    _quiet_libraries()
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_status())


def _status() -> int:
    """Runs the command and shows what went wrong; 0, 1 and 2 come from a command that came to its end alone."""
    try:
        status = app(prog_name="fairlead", standalone_mode=False)
    except FairleadError as error:
        print_line(f"fairlead: {error}", to=err)
        return error.exit_code
    except TyperException as error:
        print_line(_usage(error), to=err)
        return USAGE_ERROR
    except KeyboardInterrupt:
        status = STOPPED
    except SystemExit as error:
        return int(error.code or 0) if _completes() else _ended(error)
    except Exception:
        err.print(escape.printable(traceback.format_exc()), soft_wrap=True)
        print_line("fairlead: this is a bug in fairlead; please report the lines above", to=err)
        return BUG
    if status == STOPPED:
        print_line("fairlead: stopped; finished work is kept, and the same command resumes here", to=err)
    return status if isinstance(status, int) else 0


def _completes() -> bool:
    """Whether typer answers a request for shell completion, which ends the process before any command begins."""
    return "_FAIRLEAD_COMPLETE" in os.environ or sys.argv[1:2] in (["--install-completion"], ["--show-completion"])


def _usage(error: TyperException) -> str:
    """A usage error as one line that names the command's help."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "fairlead"
    return f"{command}: {error.format_message()} — see {command} --help"


def _ended(error: SystemExit) -> int:
    """The status of a process that a library or a closed pipe ended; never one that stands for a verdict."""
    cause = error.__context__
    if isinstance(cause, OSError) and cause.errno == errno.EPIPE:
        return BROKEN_PIPE
    print_line(f"fairlead: something in the command ended the process (exit status {error.code})", to=err)
    return BUG
