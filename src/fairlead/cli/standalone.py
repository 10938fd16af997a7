"""`fairlead judge score`, `eval model` and `data pairs`: pieces that need no project. No logic lives here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairlead.cli.common import EVALUATION, AsJson, ProjectOption, err, out, print_json, print_line
from fairlead.progress import for_console

if TYPE_CHECKING:
    from fairlead.standalone.results import JudgedAnswers

JudgeOption = Annotated[
    str,
    typer.Option(
        "--judge",
        metavar="JUDGE",
        help="openai:MODEL, openai:MODEL@http://HOST/v1, anthropic:MODEL, local:FOLDER_OR_HUB_ID or rubric:FILE.yaml",
    ),
]
Criterion = Annotated[
    list[str] | None,
    typer.Option("--criterion", help="name of a built-in criterion, such as faithfulness; may be repeated"),
]
Prompts = Annotated[Path, typer.Argument(metavar="PROMPTS", help="rows {prompt, gold?, cluster?, source?}")]
MaxMissing = Annotated[float, typer.Option(min=0, max=1, help="share of judgements that may be missing")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="longest answer, in tokens")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the answers")]


def score(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="rows {prompt, answer, gold?, cluster?, source?}")],
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="JUDGE", help="as in eval model (default: the project's judge)")
    ] = None,
    criteria: Criterion = None,
    to: Annotated[Path | None, typer.Option("--out", help="file for the rows with their scores")] = None,
    max_missing: MaxMissing = 0.1,
    folder: ProjectOption = Path(),
    as_json: AsJson = False,
) -> None:
    """Let a judge score answers from 1 to 10; needs no project where --judge names one."""
    from fairlead.standalone.scoring import score_answers

    scored = score_answers(
        file,
        judge or _judge_of_project(folder),
        criteria=criteria,
        max_missing=max_missing,
        folder=folder,
        progress=for_console(err),
    )
    _show(scored, to, as_json=as_json)


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="folder or hub id of a model or an adapter")],
    prompts: Prompts,
    judge: JudgeOption,
    criteria: Criterion = None,
    to: Annotated[Path | None, typer.Option("--out", help="file for the answers with their scores")] = None,
    max_new_tokens: MaxNewTokens = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0 answers greedily")] = 0.0,
    seed: Seed = 0,
    max_missing: MaxMissing = 0.1,
    folder: ProjectOption = Path(),
    as_json: AsJson = False,
) -> None:
    """Let a model answer prompts and a judge score the answers; needs no project."""
    from fairlead.standalone.alignment import evaluate_alignment

    scored = evaluate_alignment(
        model,
        prompts=prompts,
        judge=judge,
        criteria=criteria,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
        max_missing=max_missing,
        folder=folder,
        progress=for_console(err),
    )
    _show(scored, to, as_json=as_json)


def pairs(
    prompts: Prompts,
    model: Annotated[str, typer.Option("--model", help="folder or hub id of a model or an adapter")],
    judge: JudgeOption,
    to: Annotated[Path, typer.Option("--out", help="file for the pairs")] = Path("pairs.jsonl"),
    temperature: Annotated[list[float] | None, typer.Option(help="may be repeated (default: 0.7 and 1.2)")] = None,
    few_shot: Annotated[int, typer.Option(min=0, help="also draw completions after so many of --examples")] = 0,
    examples: Annotated[Path | None, typer.Option(help="rows {prompt, answer}")] = None,
    constitution: Annotated[Path | None, typer.Option(help="YAML file of principles for revisions")] = None,
    recipe: Annotated[str, typer.Option(help="best_worst, all or revision")] = "best_worst",
    judged_by: Annotated[str, typer.Option(help="comparisons or scores")] = "comparisons",
    margin: Annotated[float, typer.Option(min=0, help="keep a pair whose winner is better by more than this")] = 0.0,
    max_new_tokens: MaxNewTokens = 256,
    seed: Seed = 0,
    max_missing: MaxMissing = 0.1,
    folder: ProjectOption = Path(),
    as_json: AsJson = False,
) -> None:
    """Build preference pairs from prompts, a model and a judge; needs no project."""
    from fairlead.data.yaml_line import data_line
    from fairlead.standalone.preferences import build_preferences

    options: dict[str, Any] = {"recipe": recipe, "judged_by": judged_by}  # checked where they are read
    built = build_preferences(
        prompts,
        model,
        judge,
        temperatures=temperature or (0.7, 1.2),
        few_shot=few_shot,
        examples=examples or (),
        constitution=constitution,
        margin=margin,
        max_new_tokens=max_new_tokens,
        seed=seed,
        max_missing=max_missing,
        folder=folder,
        progress=for_console(err),
        **options,
    )
    built.write(to)
    if as_json:
        print_json(
            {
                "pairs": len(built),
                "out": str(to),
                "judge": built.judge,
                "missing": built.missing,
                "verdicts": built.states,
                "outcomes": {str(k): n for k, n in built.outcomes.items()},
            }
        )
        return
    print_line(str(built))
    print_line(f"wrote {to}; use them: {data_line({'preferences': to})} in fairlead.yaml")


def compare(
    prompts: Annotated[Path, typer.Option("--prompts", metavar="FILE", help="rows {prompt, gold?, cluster?}")],
    arms: Annotated[
        list[str],
        typer.Option(
            "--arm",
            metavar="NAME=ARM",
            help="who answers: MODEL, MODEL+ADAPTER, openai:MODEL@http://HOST/v1 or anthropic:MODEL; two or more",
        ),
    ],
    judge: Annotated[str | None, typer.Option("--judge", metavar="JUDGE", help="as in eval model")] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="YAML", help="a check as in eval.metrics, or a file of them; may be repeated"),
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", help="file for the comparison as JSON")] = None,
    max_new_tokens: MaxNewTokens = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0 answers greedily")] = 0.0,
    seed: Seed = 0,
    max_missing: MaxMissing = 0.1,
    folder: ProjectOption = Path(),
    as_json: AsJson = False,
) -> None:
    """Let models that were made elsewhere answer the same prompts, and compare every pair; needs no project."""
    from fairlead.cli.render import show_imported, show_table_of_arms
    from fairlead.standalone.comparing import compare as compare_arms

    comparison = compare_arms(
        prompts,
        _named(arms),
        judge,
        metrics=[check for text in metrics or () for check in _checks(text)],
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
        max_missing=max_missing,
        folder=folder,
        progress=for_console(err),
    )
    if to is not None:
        comparison.write(to)
    if as_json:
        print_json(comparison.model_dump(mode="json"))
        return
    show_table_of_arms(comparison.arms, comparison.metrics)
    show_imported(comparison)
    if to is not None:
        print_line(f"wrote {to}")


def _named(arms: list[str]) -> dict[str, str]:
    """The arms by name.

    Raises:
        ConfigError: if one has no name, or two have the same.
    """
    from fairlead.errors import ConfigError

    named: dict[str, str] = {}
    for arm in arms:
        name, equals, text = arm.partition("=")
        if not (equals and name and text):
            raise ConfigError(f"{arm} names no arm", where="--arm", remedy="write NAME=MODEL, as in today=org/model")
        if name in named:
            raise ConfigError(f"two arms are named {name}", where="--arm", remedy="give one of them another name")
        named[name] = text
    return named


def _checks(text: str) -> list[Any]:
    """A check in YAML, or those of a file.

    Raises:
        ConfigError: if it is no YAML.
    """
    from fairlead.config.loading.yaml_file import parse_yaml
    from fairlead.files import read_text

    path = Path(text)
    written = read_text(path) if len(text) < 500 and path.is_file() else text
    checks = parse_yaml(written, where="--metric")
    return checks if isinstance(checks, list) else [checks]


def mount(root: typer.Typer, judge: typer.Typer, evaluation: typer.Typer, data: typer.Typer) -> None:
    """Adds the commands to the command line and its groups."""
    root.command("compare", rich_help_panel=EVALUATION)(compare)
    judge.command("score")(score)
    evaluation.command("model")(evaluate)
    data.command("pairs")(pairs)


def _judge_of_project(folder: Path) -> Any:
    """The project's judge of the comparison.

    Raises:
        ConfigError: if there is no project, or it has no judge.
    """
    from fairlead.config.project import CONFIG_NAME, load_config
    from fairlead.errors import ConfigError

    remedy = "name one: --judge openai:MODEL"
    if not (folder / CONFIG_NAME).is_file():
        raise ConfigError("no judge is named, and there is no project here", where="judge score", remedy=remedy)
    settings = load_config(folder).eval_judge
    if settings is None:
        raise ConfigError("the project has no judge", where=str(folder), remedy=remedy)
    return settings


def _show(scored: JudgedAnswers, to: Path | None, *, as_json: bool) -> None:
    if to is not None:
        scored.write(to)
    if as_json:
        print_json(scored.to_json())
        return
    out.print(repr(scored.table()), soft_wrap=True)
    print_line(f"judge: {scored.judge}")
    if to is not None:
        print_line(f"wrote {to}")
