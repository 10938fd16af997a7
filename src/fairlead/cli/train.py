"""`fairlead sft`, `dpo`, `sweep` and `diagnose`: training, and what its curves mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli.common import (
    TRAINING,
    AsJson,
    Force,
    ProjectArgument,
    bounds_text,
    err,
    out,
    print_json,
    print_line,
    show_table,
)
from fairlead.cli.render import run_stage
from fairlead.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fairlead.config.monitoring import Thresholds
    from fairlead.records import Interval
    from fairlead.sweep.recommend import Point, Recommendation
    from fairlead.training.measurements import Metric


def sweep(
    folder: ProjectArgument = Path(),
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            "--set",
            help="key and values, such as dpo.beta=0.1,0.3; with several, every combination; or seed=0,1,2 by itself",
        ),
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
    from fairlead.sweep.recommend import advice

    axes = dict(sweeping.parse_axis(text) for text in over) if over else None
    if axes is not None and "seed" in axes:
        _sweep_seeds(folder, axes, as_json=as_json)
        return
    swept = sweeping.sweep(folder, axes, kl_prompts=kl_prompts, progress=for_console(err))
    if as_json:
        print_json(swept.result.model_dump(mode="json"))
        return
    show_table(
        ("point", "win rate", "KL, nats", "validation gap", ""),
        [
            (
                point.name,
                *(_two_lines(interval) for interval in (point.win_rate, point.kl, point.gap)),
                _mark(i, point, swept.recommendation),
            )
            for i, point in enumerate(swept.points)
        ],
        words=("point", ""),
    )
    for point in swept.points:
        if usual := advice(point.values):
            print_line(f"usual advice for {point.name}: {usual}")
    out.print(f"recommended: {swept.recommendation.why}", soft_wrap=True)
    out.print(f"frontier: {swept.folder / 'frontier.png'}", soft_wrap=True)


def _sweep_seeds(folder: Path, axes: dict[str, list[Any]], *, as_json: bool) -> None:
    from fairlead.progress import for_console
    from fairlead.sweep.seeds import compare_seeds, sentence

    if len(axes) > 1:
        others = ", ".join(key for key in axes if key != "seed")
        raise ConfigError(
            "a point of a sweep has the project's seed", where=f"--over seed with {others}", remedy="sweep them apart"
        )
    result = compare_seeds(folder, axes["seed"], for_console(err))
    if as_json:
        print_json(result.model_dump(mode="json"))
        return
    show_table(
        (result.pair.replace("_", " "), "over seeds and prompts", "each seed", "seeds' share"),
        [
            (
                figure.name,
                _two_lines(figure.over_seeds_and_prompts),
                ", ".join(f"{value:.3f}" for value in figure.of_seeds.values()),
                "—" if figure.seed_share is None else f"{figure.seed_share:.0%}",
            )
            for figure in result.figures
        ],
        words=("each seed",),
    )
    print_line(sentence(result).replace("`", ""))


def _two_lines(interval: Interval) -> str:
    """A value with its n, and its interval below, because three beside each other do not fit into 80 columns."""
    if interval.value is None:
        return "—"
    return f"{interval.value:.3f}, n {interval.n}\n{bounds_text(interval.low, interval.high)}"


def _mark(place: int, point: Point, recommendation: Recommendation) -> str:
    if point.failed is not None:
        return f"failed: {point.failed}"
    if place == recommendation.index:
        return "recommended"
    return "equal to the best" if place in recommendation.equal else ""


def diagnose(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="metrics.jsonl, TRL's trainer_state.json, a folder of checkpoints, or a project folder",
        ),
    ] = Path(),
    beta: Annotated[float | None, typer.Option(min=0, help="β of the training, where the log does not hold it")] = None,
    as_json: AsJson = False,
) -> None:
    """Explain the curves of a DPO training, and say what to change."""
    from fairlead.documents.diagnosis import alarms
    from fairlead.training.diagnosis.coverage import not_judged
    from fairlead.training.diagnosis.rules import RULES, diagnose, sentence
    from fairlead.training.training_log import LOG_NEEDED

    path, rows, limits = _training_log(log)
    rows = rows if beta is None else [*rows, {"step": 0, "run/beta": beta}]
    unjudged = not_judged(rows, limits)
    if len(unjudged) == len(RULES):
        raise DataError("nothing to judge: no row has a loss, a reward or a KL", where=str(path), remedy=LOG_NEEDED)
    findings = diagnose(rows, limits)
    if as_json:
        rows_of_findings = [finding.model_dump(mode="json") for finding in findings]
        print_json({"findings": rows_of_findings, "alarms": len(alarms(findings)), "not_judged": unjudged})
        return
    for finding in findings:
        print_line(f"{finding.severity}: {finding.line}")
    if not alarms(findings):
        print_line(sentence(rows, []))
    for rule, lacking in unjudged.items():
        print_line(f"not judged: {rule.replace('_', ' ')}: {lacking}")


def _training_log(path: Path) -> tuple[Path, list[dict[str, Metric]], Thresholds | None]:
    """A log's file and rows, with the project's own thresholds where the path is that of a project."""
    from fairlead.config.project import CONFIG_NAME
    from fairlead.training.measurements import METRICS
    from fairlead.training.training_log import log_file, read_log

    limits = None
    if path.is_dir() and log_file(path) is None and (path / CONFIG_NAME).is_file():
        from fairlead.pipeline.project import Project

        project = Project(path)
        if not project.config.trains_dpo:
            raise DataError(
                "there is no training log: dpo.from brings a model that was trained elsewhere",
                where=str(path),
                remedy="give the log of that training: fairlead diagnose FILE",
            )
        path, limits = project.artifact("dpo").file(METRICS), project.config.watch.thresholds
    log = read_log(path)
    return log.path, log.rows, limits


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
