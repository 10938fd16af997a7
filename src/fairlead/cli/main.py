"""The command line: one command per stage, each a few lines. No logic lives here."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Table

from fairlead.cli import data as data_commands
from fairlead.cli import evaluate, judge, release
from fairlead.cli.common import AsJson, FolderOption, err, out, print_json
from fairlead.cli.decide import decide, show_decision
from fairlead.cli.judge_estimates import show_stage_estimate
from fairlead.cli.train import mount as mount_training
from fairlead.decide.permission import read_decision
from fairlead.errors import ConfigError, FairleadError
from fairlead.pipeline.artifacts import Artifact
from fairlead.pipeline.project import Project

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Align a language model to preferences, and prove that it helped.",
)
data = typer.Typer(no_args_is_help=True, help="Preference data: build it, import it.")
evaluation = typer.Typer(
    invoke_without_command=True, help="Compare base, SFT and DPO; statistics of other evaluations."
)
app.add_typer(data, name="data")
app.add_typer(evaluation, name="eval")
mount_training(app)
app.add_typer(judge.app, name="judge")
data.add_typer(data_commands.app)  # without a name its commands join `fairlead data`
evaluate.mount(app, evaluation)
release.mount(app)


Folder = Annotated[Path, typer.Argument(help="project folder, the one with fairlead.yaml")]
Estimate = Annotated[bool, typer.Option("--estimate", help="say what the judge would cost, and run nothing")]
Force = Annotated[bool, typer.Option("--force", help="run the stage even if it is up to date")]


def _project(folder: Path) -> Project:
    from fairlead.progress import for_console

    return Project(folder, progress=for_console(err))


def _stage(folder: Path, stage: str, *, force: bool, as_json: bool) -> dict[str, Any]:
    """Runs one stage and what it needs, and prints its figures."""
    artifact = _project(folder).run(stage, force=[stage] if force else [])[stage]
    figures = {"stage": stage, "artifact": str(artifact.path), "hash": artifact.hash, **artifact.manifest.figures}
    if as_json:
        print_json(figures)
    else:
        for key, value in figures.items():
            out.print(f"{key.replace('_', ' ')}: {value}", soft_wrap=True)
    return figures


@app.command()
def init(folder: Folder) -> None:
    """Write a fairlead.yaml whose comments explain every key."""
    from fairlead.config.template import write_template

    path = write_template(folder)
    out.print(f"wrote {path}; edit it, then: fairlead run {folder}", soft_wrap=True)


app.command()(decide)


@app.command()
def run(
    folder: Folder = Path(),
    until: Annotated[str | None, typer.Option(help="last stage to run")] = None,
    force: Annotated[list[str] | None, typer.Option(help="stage to run even if it is up to date")] = None,
    estimate: Estimate = False,
    as_json: AsJson = False,
) -> None:
    """Run all stages, skipping what is up to date."""
    if estimate:
        if until or force:
            raise ConfigError("--until and --force are not read beside --estimate", where="fairlead run")
        show_stage_estimate(folder, None, as_json=as_json)
        return
    made = _project(folder).run(until, force=force or [], on_stage=None if as_json else _decision_first)
    if as_json:
        print_json({name: {"hash": a.hash, "figures": dict(a.manifest.figures)} for name, a in made.items()})
    elif "report" in made:
        _show_report(folder)


def _decision_first(stage: str, artifact: Artifact) -> None:
    """Shows the decision when it is made: what follows takes longer, or refuses."""
    if stage == "decide":
        show_decision(read_decision(artifact))


@app.command()
def status(folder: Folder = Path(), as_json: AsJson = False) -> None:
    """Show each stage, its state, why it is stale, and its headline figure."""
    rows = Project(folder).status()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table("stage", "state", "figure", "seconds", "why")
    for row in rows:
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        table.add_row(row.stage, row.state, row.headline, seconds, row.why)
    out.print(table)


@app.command()
def sft(folder: Folder = Path(), force: Force = False, as_json: AsJson = False) -> None:
    """Supervised fine-tuning of the base model."""
    _stage(folder, "sft", force=force, as_json=as_json)


@app.command()
def dpo(folder: Folder = Path(), force: Force = False, as_json: AsJson = False) -> None:
    """Direct preference optimisation from the SFT model."""
    _stage(folder, "dpo", force=force, as_json=as_json)


@data.command("build")
def data_build(
    folder: Folder = Path(), estimate: Estimate = False, force: Force = False, as_json: AsJson = False
) -> None:
    """Build the preference pairs: sample, judge, pair, split."""
    if estimate:
        show_stage_estimate(folder, "judge", as_json=as_json)
        return
    _stage(folder, "pairs", force=force, as_json=as_json)


@data.command("import")
def data_import(
    source: Annotated[str, typer.Argument(help="JSON, JSONL or Parquet file, or a hub id")],
    to: Annotated[Path, typer.Option("--out", help="file to write")] = Path("data/preferences.jsonl"),
    split: Annotated[str, typer.Option(help="split of a hub data set")] = "train",
    form: Annotated[str | None, typer.Option("--format", help="name of the rows' form; detected if not given")] = None,
    as_json: AsJson = False,
) -> None:
    """Read preference pairs of any known form and write them in Fairlead's."""
    from fairlead.data.convert import import_preferences

    summary = import_preferences(source, to, split=split, form=form)
    if as_json:
        print_json(summary)
        return
    out.print(f"{summary['pairs']} pairs of form {summary['format']} → {to}", soft_wrap=True)
    for reason, count in summary["dropped"].items():
        out.print(f"dropped {count}: {reason}", soft_wrap=True)
    for name, count in summary["ignored_fields"].items():
        out.print(f"not read: {name} of messages in {count} rows", soft_wrap=True)
    out.print(f"use them: data: {{preferences: {to}}} in fairlead.yaml", soft_wrap=True)


@evaluation.callback()
def eval_(
    context: typer.Context,
    folder: FolderOption = Path(),
    estimate: Estimate = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Compare base, SFT and DPO on the held-out prompts."""
    if estimate:
        show_stage_estimate(folder, "eval", as_json=as_json)
    elif context.invoked_subcommand is None:
        _stage(folder, "eval", force=force, as_json=as_json)


@evaluation.command("stats")
def eval_stats(
    file: Annotated[Path, typer.Argument(help="annotations of two models' answers")],
    form: Annotated[str, typer.Option("--format", help="alpaca_eval or jsonl")] = "alpaca_eval",
    as_json: AsJson = False,
) -> None:
    """Win rate, standard error and interval of an evaluation made elsewhere."""
    from fairlead.evaluation.external.annotations import eval_stats

    figures = eval_stats(file, form)
    if as_json:
        print_json(figures)
        return
    for key, value in figures.items():
        out.print(f"{key.replace('_', ' ')}: {value}", soft_wrap=True)


@app.command()
def gate(
    folder: Folder = Path(),
    junit: Annotated[Path | None, typer.Option(help="file to write as JUnit XML")] = None,
    markdown: Annotated[Path | None, typer.Option(help="file to write as Markdown")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Judge the evidence. Exit status 0 passed, 1 failed, 2 not enough evidence."""
    from fairlead.gate.stage import EXIT_CODES
    from fairlead.release.evidence import verify_judged

    project = _project(folder)
    artifact = project.run("gate", force=["gate"] if force else [])["gate"]
    verify_judged(project)
    release.write_gate_files(artifact.path, junit=junit, markdown=markdown)
    record = json.loads(artifact.file("gate.json").read_text(encoding="utf-8"))
    if as_json:
        print_json(record)
    else:
        _show_gate(record)
    raise typer.Exit(EXIT_CODES[record["status"]])


def _show_gate(record: dict[str, Any]) -> None:
    from fairlead.gate.output import demanded

    table = Table("figure", "demanded", "found", "status")
    for c in record["criteria"]:
        found = "—" if c["value"] is None else f"{c['value']:.4g}"
        table.add_row(c["figure"], demanded(c), found, f"{c['status']} {c['reason']}".strip())
    out.print(table)
    out.print(f"gate: {record['status']}; {record['advice']}")


@app.command()
def report(folder: Folder = Path(), force: Force = False, as_json: AsJson = False) -> None:
    """Write report.md and report.json."""
    _project(folder).run("report", force=["report"] if force else [])
    if as_json:
        print_json(json.loads((folder / "report" / "report.json").read_text(encoding="utf-8")))
    else:
        _show_report(folder)


def _show_report(folder: Path) -> None:
    """The table, the gate's verdict, and where the report is."""
    content = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    out.print(content["decision"]["lines"][0], soft_wrap=True)
    table = Table("Metric", "Base", "SFT", "SFT+DPO", "Δ DPO over SFT", "n", "missing")
    for row in content["table"]:
        values = ["—" if row[v] is None else f"{row[v]:.3f}" for v in ("base", "sft", "dpo")]
        delta = "—" if row["delta"] is None else f"{row['delta']:+.3f}"
        if row["delta_low"] is not None:
            delta += f" [{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"
        table.add_row(row["metric"], *values, f"{delta} {row['word']}", str(row["n"]), str(row["missing"]))
    out.print(table)
    for name, pair in content["pairwise"].items():
        if pair["win_rate"] is not None:
            interval = "" if pair["low"] is None else f" [{pair['low']:.3f}, {pair['high']:.3f}]"
            out.print(
                f"{name.replace('_', ' ')}: win rate {pair['win_rate']:.3f}{interval} {pair['word']}, n {pair['n']}, "
                f"{pair['missing']} missing (at worst {pair['worst']:.3f}, at best {pair['best']:.3f})",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    for warning in content["warnings"]:
        out.print(f"warning {warning['name']}: {warning['text']}", soft_wrap=True)
    _show_gate(content["gate"])
    out.print(f"report: {folder / 'report' / 'report.md'}", soft_wrap=True)


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--out", help="project folder to make")] = Path("demo-project"),
    seed: Annotated[int, typer.Option(help="seed of the task, the model and the run")] = 0,
) -> None:
    """Make the built-in incident-triage project and run all of it."""
    from fairlead.demo.project import make_project
    from fairlead.progress import for_console

    make_project(to, seed=seed, progress=for_console(err))
    _project(to).run(on_stage=_decision_first)
    _show_report(to)
    out.print(
        "with your own model:\n"
        "  fairlead init my-project        # write fairlead.yaml, every key explained\n"
        "  fairlead run my-project         # all stages; stop and go on as you like\n"
        "  fairlead gate my-project        # exit status 0: there is evidence that it is better",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What this machine, these versions and these keys can do, and what to install for the rest."""
    from fairlead.cli.doctor import examine

    findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    table = Table("what", "found", "what it means")
    for finding in findings:
        table.add_row(finding.what, finding.found, finding.means)
    out.print(table)


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
    """Runs the command line; every error with a remedy is one line and its own exit status."""
    _quiet_libraries()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except FairleadError as error:
        err.print(f"fairlead: {error}", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print(
            "fairlead: stopped; nothing that was finished is lost, the same command goes on from here",
            markup=False,
            soft_wrap=True,
        )
        sys.exit(130)
