"""`fairlead eval …`, `score` and `try`: the comparison, answers from elsewhere, the model as a reward model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.columns import Columns
from rich.panel import Panel
from rich.text import Text

from fairlead.cli.common import (
    EVALUATION,
    AsJson,
    Force,
    JustEstimate,
    NoRun,
    ProjectOption,
    err,
    open_project,
    out,
    print_json,
    print_line,
)
from fairlead.cli.judges.estimates import show_stage_estimate
from fairlead.cli.render import figures_of, show_comparison, show_figures, show_imported
from fairlead.documents.evaluation import EvalResult
from fairlead.errors import ConfigError, some
from fairlead.pipeline.project import Project
from fairlead.progress import for_console

app = typer.Typer(
    invoke_without_command=True, help="Compare base, SFT and DPO, and answers or verdicts made elsewhere."
)


def mount(root: typer.Typer) -> None:
    """Adds `fairlead eval …`, `fairlead score` and `fairlead try` to the command line."""
    root.add_typer(app, name="eval", rich_help_panel=EVALUATION)
    root.command("score", rich_help_panel=EVALUATION)(score)
    root.command("try", rich_help_panel=EVALUATION)(try_)


@app.callback()
def eval_(
    context: typer.Context,
    folder: ProjectOption = Path(),
    estimate: JustEstimate = False,
    force: Force = False,
    no_run: NoRun = False,
    as_json: AsJson = False,
) -> None:
    """Compare base, SFT and DPO on the held-out prompts."""
    if estimate:
        show_stage_estimate(folder, "eval", as_json=as_json)
    elif context.invoked_subcommand is None:
        if force and no_run:
            raise ConfigError("--force and --no-run contradict each other", where="fairlead eval")
        project = open_project(folder, recorded=no_run)
        artifact = project.artifact("eval") if no_run else project.run("eval", force=["eval"] if force else [])["eval"]
        if as_json:
            print_json(figures_of(artifact))
            return
        show_comparison(EvalResult.read(artifact.file("comparison.json")))
        print_line(f"comparison: {artifact.path}")


@app.command("stats")
def eval_stats(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="annotations of two models' answers")],
    form: Annotated[str, typer.Option("--format", help="alpaca_eval or jsonl")] = "alpaca_eval",
    as_json: AsJson = False,
) -> None:
    """Show win rate, standard error and interval of an evaluation made elsewhere."""
    from fairlead.evaluation.external.annotations import eval_stats

    figures = eval_stats(file, form).model_dump(mode="json")
    if as_json:
        print_json(figures)
        return
    show_figures(figures)


def score(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="rows {prompt, answer}, or preference pairs")],
    folder: ProjectOption = Path(),
    to: Annotated[Path | None, typer.Option("--out", help="file for the rows with their rewards")] = None,
    as_json: AsJson = False,
) -> None:
    """Score answers with the implicit reward of the DPO model."""
    from fairlead.evaluation.reward_model import score_file

    scored = score_file(Project(folder, progress=for_console(err)), file, to)
    for numbers, reason in (
        (scored.prompt_too_long, "not scored, the prompt is too long"),
        (scored.answer_cut, "an answer is cut"),
    ):
        if numbers:
            err.print(f"{len(numbers)} rows: {reason}: {some(numbers)}", soft_wrap=True)
    if as_json:
        print_json(scored.content())
        return
    for row in scored.scores:
        rewards = "  ".join(f"{name.replace('_', ' ')} {value:+.4f}" for name, value in row.rewards.items())
        prompt = row.row.prompt.messages[-1].content
        out.print(f"{rewards}  {' '.join(prompt.split())[:60]}", soft_wrap=True)
    accuracy = scored.accuracy
    if accuracy is not None:
        bounds = "" if accuracy.low is None else f" [{accuracy.low:.3f}, {accuracy.high:.3f}]"
        out.print(f"chosen preferred: {accuracy.value:.3f}{bounds}, n {accuracy.n}")


def try_(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="what to ask")],
    folder: ProjectOption = Path(),
    temperature: Annotated[float | None, typer.Option(help="0 is greedy (default: answers.temperature)")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the answers of base, SFT and DPO side by side."""
    from fairlead.evaluation.reward_model import try_prompt

    answers = try_prompt(Project(folder), prompt, temperature=temperature)
    if as_json:
        print_json({name: {"text": a.text, "finish": a.finish, "tokens": a.tokens} for name, a in answers.items()})
        return
    panels = [
        Panel(Text(answer.text), title=name + (", cut" if answer.finish == "length" else ""))
        for name, answer in answers.items()
    ]
    out.print(Columns(panels, equal=True, expand=True))


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="answers of one or more models")],
    folder: ProjectOption = Path(),
    form: Annotated[str, typer.Option("--format", help="alpaca_eval or jsonl")] = "alpaca_eval",
    to: Annotated[Path, typer.Option("--out", help="folder for comparison.json and verdicts.jsonl")] = Path("imported"),
    own: Annotated[
        bool, typer.Option("--own", help="also compare them with the project's own base, SFT and DPO")
    ] = False,
    name: Annotated[str | None, typer.Option(help="the model's name, if the file gives none")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare answers that other systems made, with the project's judge and metrics."""
    from fairlead.evaluation.external.compare import import_answers

    project = Project(folder, progress=for_console(err))
    comparison = import_answers(project, files, form=form, to=to, own=own, name=name)
    if as_json:
        print_json(comparison.model_dump(mode="json"))
        return
    show_imported(comparison)
