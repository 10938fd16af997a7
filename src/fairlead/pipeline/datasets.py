"""Reads the rows that the project's stages wrote."""

from __future__ import annotations

from pathlib import Path

from fairlead.files import read_jsonl
from fairlead.records import (
    Completion,
    Example,
    Preference,
    Prompt,
    Verdict,
    completion_from_json,
    example_from_json,
    preference_from_json,
    prompt_from_json,
    verdict_from_json,
)


def prompts(path: Path) -> list[Prompt]:
    return [prompt_from_json(row) for _, row in read_jsonl(path)]


def examples(path: Path) -> list[Example]:
    return [example_from_json(row) for _, row in read_jsonl(path)]


def completions(path: Path) -> list[Completion]:
    return [completion_from_json(row) for _, row in read_jsonl(path)]


def verdicts(path: Path) -> list[Verdict]:
    return [verdict_from_json(row) for _, row in read_jsonl(path)]


def preferences(path: Path) -> list[Preference]:
    return [preference_from_json(row) for _, row in read_jsonl(path)]


def eval_verdicts(path: Path) -> dict[str, Verdict]:
    """The verdicts of the comparison, by the id of what they compare."""
    rows = [{name: value for name, value in row.items() if name != "pair"} for _, row in read_jsonl(path)]
    return {verdict.comparison_id: verdict for verdict in map(verdict_from_json, rows)}
