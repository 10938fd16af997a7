"""`fairlead data check`, `clean`, `split`, `export` and `show`: preference files. No logic lives here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fairlead.cli.common import (
    NOT_PASSED,
    AsJson,
    Force,
    JustEstimate,
    ProjectArgument,
    err,
    out,
    print_json,
    print_line,
    show_table,
)
from fairlead.cli.render import run_stage
from fairlead.documents.data_check import DataCheck
from fairlead.errors import ConfigError, some
from fairlead.records import Interval

app = typer.Typer(no_args_is_help=True, help="Build, convert, check, split, export and show preference pairs.")

Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="JSON, JSONL, CSV, TSV or Parquet file, a saved data set, or a hub id")
]
Split = Annotated[str, typer.Option("--split", help="split of a data set")]
Form = Annotated[str | None, typer.Option("--format", help="name of the rows' form (default: detected)")]
Eval = Annotated[Path | None, typer.Option("--eval", help="held-out prompts that no pair may repeat")]
Similarity = Annotated[
    float, typer.Option(min=0.01, max=1, help="Jaccard similarity of 5-word shingles that makes near-duplicates")
]
Model = Annotated[str | None, typer.Option("--model", help="model whose tokens of an SFT row or prompt are counted")]
MaxLength = Annotated[int, typer.Option("--max-length", min=1, help="tokens that such a row may have")]
Waive = Annotated[list[str] | None, typer.Option(help="check that may fail, as name=reason; may be repeated")]


@app.command("build")
def build(
    folder: ProjectArgument = Path(), estimate: JustEstimate = False, force: Force = False, as_json: AsJson = False
) -> None:
    """Build the preference pairs: sample, judge, pair, split."""
    from fairlead.cli.judges.estimates import show_stage_estimate

    if estimate:
        show_stage_estimate(folder, "judge", as_json=as_json)
        return
    run_stage(folder, "pairs", force=force, as_json=as_json)


@app.command("import")
def import_(
    source: Source,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="file to write; data/preferences.jsonl, sft.jsonl or prompts.jsonl if not given"),
    ] = None,
    split: Split = "train",
    form: Form = None,
    as_json: AsJson = False,
) -> None:
    """Read pairs, judged comparisons, SFT rows or prompts of any known form and write them in Fairlead's."""
    from fairlead.data.convert import import_rows
    from fairlead.data.reading.any_rows import WORDS
    from fairlead.data.yaml_line import data_line

    summary = import_rows(source, to, split=split, form=form)
    if as_json:
        print_json(summary)
        return
    print_line(f"{summary['rows']} {WORDS[summary['kind']]} of form {summary['format']} → {summary['out']}")
    for reason, count in summary["dropped"].items():
        print_line(f"dropped {count}: {reason}")
    for name, count in summary["ignored_fields"].items():
        print_line(f"not read: {name} of messages in {count} rows")
    print_line(f"use them: {data_line({summary['kind']: Path(summary['out'])})} in fairlead.yaml")


@app.command()
def check(
    source: Source,
    evaluation: Eval = None,
    purpose: Annotated[str, typer.Option(help="what the pairs are for: trial, effect or reliance")] = "trial",
    waive: Waive = None,
    strict: Annotated[bool, typer.Option("--strict", help="treat warnings as failures")] = False,
    split: Split = "train",
    form: Form = None,
    similarity: Similarity = 0.8,
    model: Model = None,
    max_length: MaxLength = 1024,
    as_json: AsJson = False,
) -> None:
    """Check pairs, SFT rows or prompts before training on them. Exit status: 0 nothing failed, 5 a check failed."""
    from fairlead.data.data_files import check_file

    report, read = check_file(
        source,
        split=split,
        form=form,
        evaluation=evaluation,
        settings=_settings(purpose, waive),
        similarity=similarity,
        model=model,
        max_length=max_length,
    )
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        _show_report(report, read.left_out)
    raise typer.Exit(NOT_PASSED if report.status == "fail" or (strict and report.status == "warn") else 0)


@app.command()
def clean(
    source: Source,
    drop: Annotated[list[str], typer.Option(help="leave out the rows of this check; may be repeated")],
    to: Annotated[Path, typer.Option("--out", help="file to write")] = Path("cleaned.jsonl"),
    evaluation: Eval = None,
    split: Split = "train",
    form: Form = None,
    similarity: Similarity = 0.8,
    model: Model = None,
    max_length: MaxLength = 1024,
    as_json: AsJson = False,
) -> None:
    """Write a file without the rows that the named checks complain about."""
    from fairlead.data.data_files import check_file, clean_file
    from fairlead.data.reading.any_rows import WORDS

    report, read = check_file(
        source,
        split=split,
        form=form,
        evaluation=evaluation,
        settings=_settings("trial", None),
        similarity=similarity,
        model=model,
        max_length=max_length,
    )
    summary = clean_file(report, read, drop, to)
    _say(summary, f"{summary['rows']} {WORDS[read.kind]} → {to}; {summary['dropped']} rows left out", as_json)


@app.command("split")
def split_(
    source: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE", help="pairs, SFT rows or prompts to split; with --verify files to compare"),
    ],
    to: Annotated[Path, typer.Option("--out", help="folder to write train, dev, eval … into")] = Path("split"),
    evaluation: Annotated[str, typer.Option("--eval", help="share (0.1) or number (200) of the prompts")] = "0.1",
    dev: Annotated[str, typer.Option("--dev", help="the same, for the decision; 0 for none")] = "0",
    validation: Annotated[str, typer.Option("--validation", help="the same; a project splits this off itself")] = "0",
    seed: Annotated[int, typer.Option(min=0, help="another seed draws another split")] = 0,
    verify: Annotated[
        bool, typer.Option("--verify", help="split nothing; check that no two files share prompts")
    ] = False,
    split: Split = "train",
    form: Form = None,
    similarity: Similarity = 0.8,
    as_json: AsJson = False,
) -> None:
    """Split rows by prompt, keeping near-duplicates together; or check that files share no prompts."""
    from fairlead.data.data_files import verify_split
    from fairlead.data.reading.readers import left_out
    from fairlead.data.split_file import split_file, split_lines

    if verify:
        proof = verify_split([Path(name) for name in source], similarity)
        counts = ", ".join(f"{name} {count} prompts" for name, count in proof["prompts"].items())
        _say(proof, f"no leak: {counts}", as_json)
        return
    if len(source) != 1:
        raise ConfigError(f"{len(source)} files are given, one can be split", where="data split")
    sizes = {"eval": evaluation, "dev": dev, "validation": validation}
    summary = split_file(source[0], to, sizes, split=split, form=form, seed=seed, similarity=similarity)
    words = split_lines(summary, left_out(summary["dropped"], summary["ignored_fields"]))
    _say(summary, "\n".join(words), as_json)


@app.command()
def export(
    source: Source,
    to: Annotated[Path, typer.Option("--out", help="file to write")],
    target: Annotated[str, typer.Option("--to", help="trl, openai, parquet or fairlead")] = "trl",
    split: Split = "train",
    form: Form = None,
    as_json: AsJson = False,
) -> None:
    """Write preference pairs for TRL, for OpenAI's fine-tuning, or as Parquet, in the columns of that form alone."""
    from fairlead.data.export import export as write
    from fairlead.data.reading.readers import read_preferences

    imported = read_preferences(source, Path(), split=split, format=form)
    count = write(imported.preferences, target, to)
    summary = {
        "pairs": count,
        "dropped": imported.dropped_by_reason,
        "ignored_fields": dict(imported.ignored_fields),
        "out": str(to),
    }
    _say(summary, "; ".join(filter(None, (f"{count} pairs → {to}", imported.left_out))), as_json)


@app.command()
def show(
    source: Source,
    start: Annotated[int, typer.Option("--from", min=1, help="number of the first pair")] = 1,
    count: Annotated[int | None, typer.Option(min=1, help="how many pairs (default: all)")] = None,
    most_chars: Annotated[int, typer.Option(min=20, help="longest text that is shown whole, in characters")] = 2000,
    split: Split = "train",
    form: Form = None,
) -> None:
    """Page through pairs: chosen beside rejected, with the judge's reason."""
    from fairlead.data.pager import pages, through_pager
    from fairlead.data.reading.readers import read_preferences

    imported = read_preferences(source, Path(), split=split, format=form)
    end = None if count is None else start - 1 + count
    selection = slice(start - 1, end)
    blocks = pages(imported.preferences[selection], imported.places[selection], most_chars)
    if out.is_terminal:
        through_pager(map(_rendered, blocks))
    else:
        for block in blocks:
            out.print(block)
    if imported.left_out:
        print_line(imported.left_out, to=err)


def _rendered(block: Any) -> str:
    with out.capture() as captured:
        out.print(block)
    return captured.get()


def _settings(purpose: str, waive: list[str] | None) -> Any:
    from pydantic import ValidationError

    from fairlead.config.data import DataCheckSettings

    pairs = [item.partition("=") for item in waive or []]
    try:
        reasons = {name: reason for name, _, reason in pairs}
        return DataCheckSettings.model_validate({"purpose": purpose, "waive": reasons})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:2]))
        raise ConfigError(str(first["msg"]).removeprefix("Value error, "), where=f"--{where}") from error


def _show_report(report: DataCheck, left_out: str) -> None:
    from fairlead.data.reading.any_rows import WORDS

    show_table(
        ("check", "status", "figures", "rows"),
        [
            (
                finding.check.replace("_", " "),
                finding.status if finding.waived is None else f"waived: {finding.waived}",
                ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in finding.figures.items()),
                some(finding.rows, 5) if finding.rows else "",
            )
            for finding in report.findings
        ],
        words=("check", "status", "figures", "rows"),
    )
    for finding in report.findings:
        if finding.remedy:
            _line(f"{finding.check}: {finding.remedy}")
    if left_out:
        _line(left_out)
    _line(f"{report.rows} {WORDS[report.kind]} of {report.source}: {report.status}")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Interval):
        bounds = "" if value.low is None else f" [{_short(value.low)}, {_short(value.high)}]"
        return f"{_short(value.value)}{bounds} (n = {value.n})"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(item)}" for key, item in value.items()) + ")"
    return "—" if value is None else str(value)


def _say(figures: dict[str, Any], words: str, as_json: bool) -> None:
    print_json(figures) if as_json else _line(words)


def _line(text: str) -> None:
    out.print(text, soft_wrap=True)
