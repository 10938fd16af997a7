"""Files of which only the columns say what they hold: preference pairs, SFT examples or prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar, get_args

from fairlead.data.reading import comparisons
from fairlead.data.reading.detection import NAMES
from fairlead.data.reading.examples import conversation_column, examples_of, fault_of, prompt_of
from fairlead.data.reading.readers import (
    Dropped,
    WithLeftOut,
    first_known_values,
    ignored_fields,
    read_preferences,
    read_row,
)
from fairlead.data.reading.rows import FileRow, Row, read_source
from fairlead.documents.data_check import Kind
from fairlead.errors import DataError, known_names
from fairlead.records import DropReason, Example, Preference, Prompt

R = TypeVar("R", Preference, Example, Prompt)
WORDS: Mapping[Kind, str] = {"preferences": "pairs", "sft": "SFT rows", "prompts": "prompts"}

_OF_PREFERENCES = {"chosen", "preferred_output", "chosen_response", "generations", "output_1", "fields"}


@dataclass(frozen=True)
class AnyRows(WithLeftOut, Generic[R]):
    """The records of a file or data set, and the rows that make none.

    Attributes:
        places: number of each record's row; its line, in a file of JSON lines. Records of one row are 3.1, 3.2 …
        format: the name of the form in which the rows were read.
        ignored_fields: how many rows have messages with a field that is not read, by the field's name.
        outcomes: wins, losses and draws of a model, where the form compares it with a baseline.
    """

    kind: Kind
    records: list[R]
    places: list[str]
    dropped: list[Dropped]
    format: str
    ignored_fields: Mapping[str, int]
    outcomes: Mapping[str, int] = field(default_factory=dict)

    @property
    def prompts(self) -> list[Prompt]:
        """What each record asks."""
        return [record if isinstance(record, Prompt) else record.prompt for record in self.records]


def read_any(
    source: str, folder: Path = Path(), *, split: str = "train", format: str | None = None, allow_none: bool = False
) -> AnyRows[Preference] | AnyRows[Example] | AnyRows[Prompt]:
    """The rows of a file, of the folder of a saved data set, or of the hub, as what their columns say they are.

    Args:
        format: the name of a form of pairs, `sft` or `prompts`; None takes what the columns show.
        allow_none: whether a source without any usable row is an answer too.

    Raises:
        DataError: if the source cannot be read, a row is malformed, or no usable row is left.
    """
    known = (*NAMES, *get_args(Kind)[1:])
    if format is not None and format not in known:
        raise DataError(f"unknown format {format!r}", where=source, remedy=known_names(format, known))
    rows = read_source(source, folder, split)
    kind: Kind = _kind(rows) if format is None else "preferences" if format in NAMES else _KINDS[format]
    if kind == "preferences":
        pairs = read_preferences(source, folder, split=split, format=format, allow_none=allow_none)
        of_rows = (pairs.places, pairs.dropped, pairs.format, pairs.ignored_fields, pairs.outcomes)
        return AnyRows(kind, pairs.preferences, *of_rows)
    if kind == "sft":
        return _collected(kind, examples_of, rows, source, allow_none=allow_none)
    return _collected(kind, _prompt_or_reason, rows, source, allow_none=allow_none)


def prompts_of(path: Path) -> list[Prompt]:
    """The prompts of a file of prompts, of SFT examples or of preferences, whichever its columns say.

    Raises:
        DataError: if the file cannot be read, has no rows, or a row is none of them.
    """
    return read_any(str(Path(path).resolve())).prompts


def _kind(rows: Sequence[FileRow]) -> Kind:
    """What the columns of all rows say that they hold."""
    columns = first_known_values([row.fields for row in rows])
    if columns.keys() & _OF_PREFERENCES or comparisons.form_of(columns):
        return "preferences"
    with_answer = {"answer", "completion"} | ({"output"} if "instruction" in columns else set())
    return "sft" if columns.keys() & with_answer or any(_ends_in_answer(row.fields) for row in rows) else "prompts"


def _ends_in_answer(row: Row) -> bool:
    column = conversation_column(row)
    turns = None if column is None else row[column]
    last = turns[-1] if isinstance(turns, list) and turns else None
    return isinstance(last, Mapping) and (last.get("role") == "assistant" or last.get("from") == "gpt")


_KINDS: Mapping[str, Kind] = {"sft": "sft", "prompts": "prompts"}


def _prompt_or_reason(row: Row) -> list[Prompt | DropReason]:
    prompt = prompt_of(row)
    return [prompt if isinstance(prompt, DropReason) else fault_of(prompt) or prompt]


def _collected(
    kind: Kind,
    reader: Callable[[Row], list[R | DropReason]],
    rows: Sequence[FileRow],
    source: str,
    *,
    allow_none: bool,
) -> AnyRows[R]:
    records: list[R] = []
    places: list[str] = []
    dropped: list[Dropped] = []
    for row in rows:
        results = read_row(reader, row)
        for number, result in enumerate(results, 1):
            place = str(row.number) if len(results) == 1 else f"{row.number}.{number}"
            if isinstance(result, DropReason):
                dropped.append(Dropped(row.where, result, place))
            else:
                records.append(result)
                places.append(place)
    if not records and not allow_none:
        what = f"none of {len(rows)} rows is usable; the first: {dropped[0].reason}"
        raise DataError(what, where=source, remedy=f"check the rows, or say what they are: --format {kind}")
    ignored = ignored_fields(rows)
    if kind == "sft":
        ignored.pop("weight", None)  # it says which answers become examples
    return AnyRows(kind, records, places, dropped, kind, ignored)
