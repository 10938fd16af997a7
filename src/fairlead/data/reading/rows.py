"""Rows of data files: JSON, JSON lines, CSV, TSV, Parquet, saved data sets and data sets of the hub.

Everything that reads such a file reads it here, so that the same fault has the same message everywhere. Knows nothing
of what the rows mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fairlead.data.reading.tables import table_rows
from fairlead.errors import DataError, some
from fairlead.escape import shorten
from fairlead.files import read_text

T = TypeVar("T")
Row = Mapping[str, Any]

_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}
SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", *_DELIMITERS)
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_DEEPEST = 100  # objects and lists inside each other; beyond it Python's own functions on nested values fail
_REMEDY = "one JSON object per line, or one array of objects, is expected"
_TABLE_REMEDY = "a header with the names of the columns is expected, and a row below it"
_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of a file or data set.

    Attributes:
        number: from 1; in a file of JSON lines the number of its line, in a table without the header.
        where: file and place, for messages.
        fields: its values by name.
    """

    number: int
    where: str
    fields: Row

    def read(self, reader: Callable[[Row], T]) -> T:
        """What `reader` makes of the fields.

        Raises:
            DataError: the reader's error with the place of the row.
        """
        try:
            return reader(self.fields)
        except DataError as error:
            raise DataError(error.what, where=self.where, remedy=error.remedy) from error

    def error(self, what: str, remedy: str = "") -> DataError:
        """The error of this row."""
        return DataError(what, where=self.where, remedy=remedy)


class _JsonError(Exception):
    """What is wrong with a JSON text."""


def read_rows(path: Path) -> list[FileRow]:
    """All rows of a JSON, JSON lines, CSV, TSV or Parquet file; one with another suffix is read if it begins like JSON.

    Raises:
        DataError: if the file cannot be read, has no rows, or one of them is not an object.
    """
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        return _checked(_numbered(_parquet(path), str(path)), str(path))
    text = read_text(path)
    start = text.lstrip()[:1]
    delimiters = _DELIMITERS.get(path.suffix.lower())
    if delimiters and start not in ("[", "{"):
        return _checked(table_rows(text, str(path), delimiters), str(path), _TABLE_REMEDY)
    if path.suffix.lower() not in SUFFIXES and start not in ("[", "{"):
        raise DataError("unknown kind of file", where=str(path), remedy=f"one of {', '.join(SUFFIXES)} is expected")
    return _checked(_items(text, path) if start == "[" else _lines(text, path), str(path))


def read_source(source: str, folder: Path, split: str) -> list[FileRow]:
    """The rows of a file, of the folder of a saved data set, or of a data set of the hub.

    Args:
        source: a path, relative to `folder`; a name that is no file is a hub id.
        split: split of a data set.

    Raises:
        DataError: if the source cannot be read, has no rows, or one of them is not an object.
    """
    path = Path(folder) / source
    if path.is_dir():
        return _checked(_numbered(_saved(path, split), str(path)), str(path))
    if path.exists() or path.suffix.lower() in SUFFIXES or not _HUB_ID.fullmatch(source):
        return read_rows(path)
    where = f"{source}[{split}]"
    return _checked(_numbered(_hub(source, split), where), where)


def _checked(items: Iterable[tuple[int, str, Any]], source: str, remedy_if_empty: str = _REMEDY) -> list[FileRow]:
    rows = []
    for number, where, item in items:
        if not isinstance(item, Mapping):
            kind = "null" if item is None else type(item).__name__
            remedy = 'every row is an object such as {"prompt": …}'
            raise DataError(f"not an object but {_KINDS.get(kind, kind)}", where=where, remedy=remedy)
        rows.append(FileRow(number, where, item))
    if not rows:
        raise DataError("has no rows", where=source, remedy=remedy_if_empty)
    return rows


_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "str": "a string", "list": "a list"}


def _numbered(items: Iterable[Any], source: str) -> Iterator[tuple[int, str, Any]]:
    return ((number, f"{source}: row {number}", item) for number, item in enumerate(items, 1))


def _lines(text: str, path: Path) -> Iterator[tuple[int, str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value, end = _decoded(line, _SPACE.match(line).end())  # type: ignore[union-attr]
        except json.JSONDecodeError as error:
            what = f"not JSON: {error.msg} at column {error.colno}"
            raise DataError(what, where=where, remedy=f"{_REMEDY}; mend or delete this line") from error
        except _JsonError as error:
            raise DataError(str(error), where=where, remedy="mend or delete this line") from error
        if line[end:].strip():
            what = f"not JSON: there is more after column {end}"
            raise DataError(what, where=where, remedy=f"{_REMEDY}; mend or delete this line")
        yield number, where, value


def _items(text: str, path: Path) -> Iterator[tuple[int, str, Any]]:
    """The items of a JSON array, decoded one after the other, so that an error names the row."""
    position = _after_space(text, text.index("[") + 1)
    number = 0
    closed = text[position : position + 1] == "]"
    while not closed:
        number += 1
        where = f"{path}: row {number}"
        try:
            value, end = _decoded(text, position)
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON: {error.msg}", where=f"{path}:{error.lineno}", remedy=_REMEDY) from error
        except _JsonError as error:
            raise DataError(str(error), where=where, remedy="mend or delete this row") from error
        yield number, where, value
        position = _after_space(text, end)
        closed = text[position : position + 1] == "]"
        if not closed and text[position : position + 1] != ",":
            raise _unended(text, position, path)
        position = _after_space(text, position + 1)
    if text[position + (number == 0) :].strip():
        raise _unended(text, position, path)


def _unended(text: str, position: int, path: Path) -> DataError:
    line = text.count("\n", 0, position) + 1
    return DataError("not JSON: the array does not end as it should", where=f"{path}:{line}", remedy=_REMEDY)


def _after_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _decoded(text: str, position: int) -> tuple[Any, int]:
    """The JSON value that begins at a position, and where it ends.

    Raises:
        JSONDecodeError: if there is none.
        _JsonError: if it has what cannot be used: a key twice in one object, a number of too many digits, depth.
    """
    try:
        value, end = _DECODER.raw_decode(text, position)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise _JsonError("nested too deeply") from error
    except ValueError as error:
        raise _JsonError("a number has too many digits") from error
    if text.count("[", position, end) + text.count("{", position, end) > _DEEPEST and _depth(value) > _DEEPEST:
        raise _JsonError("nested too deeply")
    return value, end


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _JsonError(f"the key {shorten(twice, 60)!r} stands twice in one object")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _depth(value: Any) -> int:
    """How many objects and lists stand inside each other, counted without recursion."""
    depth, layer = 0, [value]
    while layer:
        depth += 1
        inner = [item for item in layer if isinstance(item, dict | list)]
        layer = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
    return depth - 1


def _parquet(path: Path) -> list[Any]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    if not path.is_file():
        read_text(path)  # for its message: missing, or a folder
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {_first_line(error)}", where=str(path)) from error
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise DataError(f"two columns have the name {shorten(twice[0], 60)!r}", where=str(path))
    try:
        return list(table.to_pylist())
    except Exception as error:  # pyarrow raises unrelated types for broken values; the cause is kept
        raise DataError(f"a value cannot be read: {_first_line(error)}", where=str(path)) from error


def _saved(folder: Path, split: str) -> list[Any]:
    """The rows of a folder that `datasets` saved: one split, or several of which `split` is read."""
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(str(folder))
        return list(saved[split] if isinstance(saved, DatasetDict) else saved)
    except KeyError as error:
        raise DataError(f"no split {split!r}", where=str(folder), remedy=f"one of {some(saved)}") from error
    except Exception as error:  # pyarrow, json and the file system raise unrelated types; the cause is kept
        raise DataError(
            f"is a folder, and no data set can be read from it: {_first_line(error)}",
            where=str(folder),
            remedy="name a file in it, or a folder written by Dataset.save_to_disk",
        ) from error


def _hub(name: str, split: str) -> list[Any]:
    from datasets import load_dataset

    try:
        return list(load_dataset(name, split=split))
    except Exception as error:  # the hub client raises a dozen unrelated types; the cause is kept
        raise DataError(
            f"no file of this name, and the hub gives no data set: {_first_line(error)}",
            where=name,
            remedy="check the path or the id (data.preferences) and the split (data.preferences_split)",
        ) from error


def _first_line(error: BaseException) -> str:
    return shorten(next(iter(str(error).splitlines()), "") or type(error).__name__, 200)
