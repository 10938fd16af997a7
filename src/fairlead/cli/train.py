"""`fairlead sft`, `dpo`, `sweep` and `diagnose`: training, and what its curves mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fairlead.cli.common import TRAINING, AsJson, Force, ProjectArgument, err, out, print_json
from fairlead.cli.render import run_stage
from fairlead.errors import DataError


def sweep(
    folder: ProjectArgument = Path(),
    over: Annotated[
        list[str] | None, typer.Option(help="key and values, such as dpo.beta=0.1,0.3; with several, every combination")
    ] = None,
    kl_prompts: Annotated[
        int | None,
        typer.Option(
            "--kl-samples",
            min=2,
            help="number of held-out prompts that the KL is measured on (default: probe.kl_prompts)",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train and evaluate several values of β or of other keys, and recommend one."""
    from fairlead.progress import for_console
    from fairlead.sweep import run as sweeping
    from fairlead.sweep.recommend import advice, interval_text

    axes = dict(sweeping.parse_axis(text) for text in over) if over else None
    swept = sweeping.sweep(folder, axes, kl_prompts=kl_prompts, progress=for_console(err))
    if as_json:
        print_json(swept.result.model_dump(mode="json"))
        return
    table = Table("point", "win rate", "KL, nats per answer", "validation gap", "", "usual advice")
    for i, point in enumerate(swept.points):
        mark = "recommended" if i == swept.recommendation.index else ""
        mark = mark or ("equal to the best" if i in swept.recommendation.equal else "")
        mark = mark if point.failed is None else f"failed: {point.failed}"
        table.add_row(
            point.name,
            interval_text(point.win_rate),
            interval_text(point.kl),
            interval_text(point.gap),
            mark,
            advice(point.values),
        )
    out.print(table)
    out.print(f"recommended: {swept.recommendation.why}", soft_wrap=True)
    out.print(f"frontier: {swept.folder / 'frontier.png'}", soft_wrap=True)


def diagnose(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="metrics.jsonl of a DPO training, or a project folder")
    ] = Path(),
    as_json: AsJson = False,
) -> None:
    """Explain the curves of a DPO training, and say what to change."""
    from fairlead.config.monitoring import Thresholds
    from fairlead.documents.diagnosis import alarms
    from fairlead.training.diagnosis import rules
    from fairlead.training.measurements import METRICS, read_metrics

    limits: Thresholds | None = None
    if log.is_dir() and not (log / METRICS).is_file():
        from fairlead.pipeline.project import Project

        project = Project(log)
        log, limits = project.artifact("dpo").file(METRICS), project.config.watch.thresholds
    path = log / METRICS if log.is_dir() else log
    metrics = read_metrics(path)
    if not metrics:
        raise DataError("has no rows of a training", where=str(path), remedy="give the metrics.jsonl of a DPO run")
    findings = rules.diagnose(metrics, limits)
    if as_json:
        print_json(
            {"findings": [finding.model_dump(mode="json") for finding in findings], "alarms": len(alarms(findings))}
        )
        return
    for finding in findings:
        out.print(f"{finding.severity}: {finding.line}", soft_wrap=True)
    if not alarms(findings):
        out.print(rules.sentence(metrics, findings), soft_wrap=True)


def sft(folder: ProjectArgument = Path(), force: Force = False, as_json: AsJson = False) -> None:
    """Train the SFT model: supervised fine-tuning of the base model."""
    run_stage(folder, "sft", force=force, as_json=as_json)


def dpo(folder: ProjectArgument = Path(), force: Force = False, as_json: AsJson = False) -> None:
    """Train the DPO model: direct preference optimisation of the SFT model."""
    run_stage(folder, "dpo", force=force, as_json=as_json)


def mount(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    for command in (sft, dpo, sweep, diagnose):
        app.command(rich_help_panel=TRAINING)(command)
