"""Prompts and answers as people have them in Python: texts, rows, a file, a data set, a data frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fairlead.data.prepare import with_system
from fairlead.data.reading import fields
from fairlead.data.reading.examples import prompt_row, sourced_prompt_row
from fairlead.data.reading.fields import UnusableRowError
from fairlead.data.reading.readers import read_examples
from fairlead.data.reading.rows import SUFFIXES, FileRow, Row, read_rows
from fairlead.errors import DataError
from fairlead.escape import shorten
from fairlead.records import SOURCE, Example, Prompt, message_dicts

T = TypeVar("T")

_PROMPTS = ("prompt", "question", "user_input")
_ANSWERS = ("answer", "completion", "response", "output")


@dataclass(frozen=True)
class GivenAnswer:
    """An answer to a prompt; None where there is none."""

    prompt: Prompt
    text: str | None


def prompts_from(rows: Any, *, system: str | None = None, sourced: bool = False) -> list[Prompt]:
    """Prompts of texts, of rows {prompt, gold?, cluster?, source?}, or of a file of such rows.

    Args:
        system: system instruction for prompts that have none.
        sourced: whether each needs the text that its answer rests on.

    Raises:
        DataError: naming the row that is no prompt, or lacks its source.
    """

    def read(row: Row) -> Prompt:
        return (sourced_prompt_row if sourced else prompt_row)(_with_prompt(row))

    prompts = [_item(item, read, number, sourced) for number, item in enumerate(_rows(rows, "prompts"), 1)]
    if not prompts:
        raise DataError("is empty", where="prompts", remedy="give at least one prompt")
    return [with_system(prompt, system) for prompt in prompts]


def answers_from(rows: Any, *, sourced: bool = False) -> list[GivenAnswer]:
    """Answers of rows {prompt, answer, gold?, cluster?, source?}, or of a file of such rows.

    Raises:
        DataError: naming the row that is none.
    """

    def read(row: Row) -> GivenAnswer:
        return _answer(row, sourced_prompt_row if sourced else prompt_row)

    answers = [
        _read(read, row if isinstance(row, FileRow) else _file_row(row, "rows", n))
        for n, row in enumerate(_rows(rows, "rows"), 1)
    ]
    if not answers:
        raise DataError("is empty", where="rows", remedy='give at least one row {"prompt": …, "answer": …}')
    return answers


def examples_from(rows: Any) -> list[Example]:
    """Examples {prompt, answer} of a file or of rows, for prompts that show some first."""
    if isinstance(rows, str | Path):
        return read_examples(Path(rows))
    if all(isinstance(item, Example) for item in rows):
        return list(rows)
    answers = answers_from(rows)
    return [Example(answer.prompt, answer.text) for answer in answers if answer.text]


def _rows(rows: Any, what: str) -> Iterable[Any]:
    """The items: rows of a file, of a data frame, or of whatever can be iterated."""
    if isinstance(rows, Path) or (isinstance(rows, str) and Path(rows).suffix.lower() in SUFFIXES):
        return read_rows(Path(rows))
    if isinstance(rows, str | bytes | Mapping):
        remedy = "give a list, or the path of a file (.jsonl, .json, .parquet)"
        raise DataError("is one text or row, and several are expected", where=what, remedy=remedy)
    if hasattr(rows, "columns") and hasattr(rows, "to_dict"):  # a pandas frame; iterating it gives its columns
        return [{str(name): _plain(value) for name, value in row.items()} for row in rows.to_dict("records")]
    if not isinstance(rows, Iterable):
        raise DataError(f"is of type {type(rows).__name__}", where=what, remedy="give a list of texts or rows")
    return rows


def _plain(value: Any) -> Any:
    """A cell of a data frame as JSON has it: a list for an array, None for a missing value."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def _item(item: Any, read: Callable[[Row], Prompt], number: int, sourced: bool) -> Prompt:
    if isinstance(item, Prompt) and not (sourced and SOURCE not in item.gold):
        return item
    if isinstance(item, str):
        item = {"prompt": item}
    elif isinstance(item, list | tuple):
        item = {"prompt": list(item)}
    elif isinstance(item, Prompt):
        item = {"prompt": message_dicts(item.messages), "gold": dict(item.gold), "cluster": item.cluster}
    return _read(read, item if isinstance(item, FileRow) else _file_row(item, "prompts", number))


def _file_row(item: Any, what: str, number: int) -> FileRow:
    where = f"{what}: row {number}"
    if not isinstance(item, Mapping):
        raise DataError(
            f"is of type {type(item).__name__}, a row is expected", where=where, remedy='such as {"prompt": …}'
        )
    return FileRow(number, where, item)


def _read(read: Callable[[Row], T], row: FileRow) -> T:
    try:
        return row.read(read)
    except UnusableRowError as error:
        raise row.error(str(error), "delete this row, or give it a text") from error


def _answer(row: Row, read: Callable[[Row], Prompt]) -> GivenAnswer:
    row = _with_prompt(row)
    name = next((name for name in _ANSWERS if name in row), "answer")
    if name not in row and "messages" in row and "prompt" not in row:
        turns = list(row["messages"])
        return _answer({**row, "messages": turns[:-1], "answer": turns[-1:]}, read)
    value = row[name] if name in row else fields.field(row, name)  # raises that there is no such field
    prompt = read({key: item for key, item in row.items() if key != name})
    if value is None or isinstance(value, str):
        return GivenAnswer(prompt, value)
    answer_turns = fields.messages_field(row, name)
    if len(answer_turns) != 1 or answer_turns[0].role != "assistant":
        raise DataError(f"{name!r} must be a text or one assistant message, not {shorten(str(value))}")
    return GivenAnswer(prompt, answer_turns[0].content)


def _with_prompt(row: Row) -> Row:
    """The row with its prompt under that name, where it stands under another that is in use."""
    name = next((name for name in _PROMPTS if name in row), None)
    return row if name in (None, "prompt") or "messages" in row else {**row, "prompt": row[str(name)]}
