"""Tables of text: CSV and TSV. A header names the columns; a cell may hold lines, quotes and JSON.

Cells are text. Those of columns that hold numbers, lists or objects are read as such, so that a table and a JSON file
of the same columns give the same rows; a text that happens to look like JSON stays a text.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from fairlead.errors import DataError, some
from fairlead.escape import shorten

_QUOTES = 'put texts that hold the delimiter, quotes or line breaks in double quotes, and write " inside as ""'
_NUMBERS = re.compile(r"margin|preference|correct|(?:score|rating|avg_rating)[-_].+|.+[-_](?:score|rating)")
_STRUCTURES = {
    "annotators",
    "conversations",
    "fields",
    "generation_models",
    "generations",
    "gold",
    "history",
    "human",
    "messages",
    "model_names",
    "non_preferred_output",
    "passages",
    "answers",
    "preferred_output",
    "provenance",
    "rating",
    "ratings",
    "responses",
    "suggestions",
}  # fmt: skip
_TEXTS_OR_TURNS = ("prompt", "input", "chosen", "rejected", "completion", "answer")
_EMPTY_IS_NONE = ("human", "label", "annotators", "verdict", "answers", "history")


def table_rows(text: str, name: str, delimiters: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Number, place and fields of every row. Rows are counted from 1, without the header and blank lines.

    Args:
        name: of the file, for messages.
        delimiters: those it may have; the header has one of them, or a single column.

    Raises:
        DataError: if it is no table, two columns have one name, or a row has more or fewer cells than the header.
    """
    lines = _records(text, name, _delimiter(text, delimiters))
    line, header = next(lines, (1, []))
    columns = _columns(header, f"{name}:{line}")
    for number, (line, cells) in enumerate(lines, 1):
        where = f"{name}: row {number} (line {line})"
        if len(cells) != len(header):
            raise DataError(
                f"has {len(cells)} cells, and the header {len(header)} columns ({some(columns)})",
                where=where,
                remedy=_QUOTES,
            )
        yield number, where, _fields(columns, cells, where)


def _delimiter(text: str, delimiters: str) -> str:
    """The one that separates most columns of the header; the first of equals."""
    header = text.lstrip("\r\n").split("\n", 1)[0]
    return max(delimiters, key=header.count)


def _records(text: str, name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of every record that is not blank, with the line on which it begins."""
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        what = "a quotation is not closed" if "unexpected end" in str(error) else shorten(str(error))
        raise DataError(f"not a table: {what}", where=f"{name}:{line}", remedy=_QUOTES) from error
    finally:
        csv.field_size_limit(limit)


def _columns(header: Sequence[str], where: str) -> list[str]:
    """The names of the columns, "" for those that have none."""
    names = [name.strip() for name in header]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"two columns have the name {shorten(twice, 60)!r}", where=where, remedy="rename one of them")
    return names


def _fields(columns: Sequence[str], cells: Sequence[str], where: str) -> dict[str, Any]:
    """The cells by column. A first column without a name is the number of the row, as data frames write it."""
    unnamed = [place for place, (name, cell) in enumerate(zip(columns, cells, strict=True), 1) if cell and not name]
    if any(place > 1 for place in unnamed):
        raise DataError(f"column {unnamed[-1]} has no name", where=where, remedy="name it in the header, or empty it")
    return {name: _value(name, cell) for name, cell in zip(columns, cells, strict=True) if name}


def _value(column: str, cell: str) -> Any:
    """A cell as its column holds it; an empty one of a column that holds no text is null."""
    if _NUMBERS.fullmatch(column):
        return _json(cell, int | float | bool) if cell.strip() else None
    if column in _STRUCTURES:
        value = _json(cell, list | dict)
        return None if value == "" else value
    if column in _EMPTY_IS_NONE and not cell.strip():
        return None
    if column in _TEXTS_OR_TURNS:
        value = _json(cell, list | dict)
        return value if _is_turns(value) else cell
    return cell


def _json(cell: str, kinds: Any) -> Any:
    """The JSON value of a cell if it is of one of these kinds, else the cell itself."""
    text = cell.strip()
    if not text:
        return ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return cell
    return value if isinstance(value, kinds) else cell


def _is_turns(value: Any) -> bool:
    """Whether a value is a list of messages, or an object that holds one."""
    turns = value.get("messages") if isinstance(value, dict) else value
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(isinstance(turn, dict) and ({"role", "content"} <= turn.keys() or "from" in turn) for turn in turns)
    )
