"""Rows from files and hubs: prompts, SFT examples and preferences, with every bad row named or counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from fairlead.data.reading import fields
from fairlead.data.reading.detection import NAMES, detect, leftovers, preferences_of
from fairlead.data.reading.examples import example_row, fault_of, prompt_row, sourced_prompt_row
from fairlead.data.reading.fields import UnusableRowError
from fairlead.data.reading.rows import FileRow, Row, read_rows, read_source
from fairlead.errors import DataError, known_names
from fairlead.escape import shorten
from fairlead.files import dump_json
from fairlead.records import (
    DropReason,
    Example,
    Imported,
    Preference,
    Prompt,
    Provenance,
    Sampled,
    to_json,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Dropped:
    """A row that was left out: where it stands (in words, and by number), and why."""

    where: str
    reason: DropReason
    place: str


class WithLeftOut:
    """What the rows of a file are read into, beside the rows that are left out and the fields that are not read."""

    dropped: list[Dropped]
    ignored_fields: Mapping[str, int]

    @property
    def dropped_by_reason(self) -> dict[DropReason, int]:
        """How many rows, or answers of a row, were left out, by reason, the commonest first."""
        return dict(Counter(row.reason for row in self.dropped).most_common())

    @property
    def left_out(self) -> str:
        """What was left out in words, "" where nothing was."""
        return left_out(self.dropped_by_reason, self.ignored_fields)


@dataclass(frozen=True)
class LoadedPreferences(WithLeftOut):
    """The pairs of a file or data set, and the rows that make none.

    Attributes:
        places: number of each pair's row; its line, in a file of JSON lines. Pairs of one row are 3.1, 3.2 …
        format: the name in `detection.NAMES` under which the rows were read.
        outcomes: wins, losses and draws of the model, where the form compares a model with a baseline; the draws, and
            what else was dropped, included.
        ignored_fields: how many rows have messages with a field that is not read, by the field's name.
    """

    preferences: list[Preference]
    places: list[str]
    dropped: list[Dropped]
    format: str
    outcomes: Mapping[str, int] = field(default_factory=dict)
    ignored_fields: Mapping[str, int] = field(default_factory=dict)


def left_out(dropped: Mapping[DropReason, int] | Mapping[str, int], ignored_fields: Mapping[str, int]) -> str:
    """Dropped rows by reason and fields that are not read, in words: "2 rows left out (no verdict: 2)"."""
    parts = []
    if dropped:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
        parts.append(f"{sum(dropped.values())} rows left out ({reasons})")
    if ignored_fields:
        names = ", ".join(f"{shorten(name, 40)} in {count}" for name, count in ignored_fields.items())
        parts.append(f"fields of messages not read ({names} rows)")
    return "; ".join(parts)


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """The rows of a file of prompts or examples.

    Attributes:
        ignored_fields: how many rows have messages with a field that is not read, by the field's name.
    """

    rows: list[T]
    ignored_fields: Mapping[str, int]


def load_prompts(path: Path, *, with_source: bool = False) -> Loaded[Prompt]:
    """Rows of prompts, as `examples.prompt_row` reads them, with optional `gold` and `cluster`.

    Args:
        with_source: every row has a text that answers must rest on (`fields.SOURCE_FIELDS`), which becomes a part of
            its gold.

    Raises:
        DataError: if the file cannot be read, has no rows, or a row is no prompt.
    """
    return _loaded(sourced_prompt_row if with_source else prompt_row, read_rows(path))


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of `load_prompts`."""
    return load_prompts(path).rows


def load_examples(path: Path) -> Loaded[Example]:
    """Rows of examples, as `examples.example_row` reads them.

    Raises:
        DataError: if the file cannot be read, has no rows, or a row is no example.
    """
    return _loaded(example_row, read_rows(path))


def read_examples(path: Path) -> list[Example]:
    """The examples of `load_examples`."""
    return load_examples(path).rows


def read_preferences(
    source: str, folder: Path, *, split: str = "train", format: str | None = None, allow_none: bool = False
) -> LoadedPreferences:
    """Preference pairs from a JSON, JSONL or Parquet file, the folder of a saved data set, or the hub.

    Rows that hold no preference (an empty or identical answer, equal scores) are dropped and listed.

    Args:
        source: path, relative to `folder`; a name that is no file is a hub id.
        split: split of a data set, saved or on the hub.
        format: a name in `detection.NAMES`; None takes the form that the columns show.
        allow_none: whether a source without any usable pair is an answer too.

    Raises:
        DataError: if the source cannot be read, a row is malformed, or no pair is left.
    """
    if format is not None and format not in NAMES:
        raise DataError(f"unknown format {format!r}", where=source, remedy=known_names(format, NAMES))
    rows = read_source(source, folder, split)
    name = format or _detected(rows)
    preferences: list[Preference] = []
    places: list[str] = []
    dropped: list[Dropped] = []
    outcomes: Counter[str] = Counter()
    for row in rows:
        for place, result in _results(row, name):
            if isinstance(result, Preference) and isinstance(result.provenance, Imported):
                outcomes[result.provenance.outcome] += 1
            reason = _why_unusable(result) if isinstance(result, Preference) else result
            if reason is not None:
                dropped.append(Dropped(row.where, reason, place))
            elif isinstance(result, Preference):
                preferences.append(replace(result, provenance=_provenance(result, row, source, name)))
                places.append(place)
    outcomes.pop("", None)
    if not preferences and not allow_none:
        raise DataError(
            f"no usable pair in {len(rows)} rows (format {name}); the first: {dropped[0].reason}",
            where=source,
            remedy="check the rows, or name their form in data.preferences_format",
        )
    return LoadedPreferences(preferences, places, dropped, name, dict(outcomes), ignored_fields(rows))


def _detected(rows: Sequence[FileRow]) -> str:
    """The name of the form of all rows; a field that is null in one row is looked up in the others."""
    return FileRow(rows[0].number, rows[0].where, first_known_values([row.fields for row in rows])).read(detect)


def _results(row: FileRow, form: str) -> list[tuple[str, Preference | DropReason]]:
    """What a row holds in a form, and where: the number of the row, with that of the pair where it may hold several."""
    results = read_row(partial(preferences_of, form), row, f" (format {form})")
    if len(results) == 1:
        return [(str(row.number), results[0])]
    return [(f"{row.number}.{number}", result) for number, result in enumerate(results, 1)]


def first_known_values(rows: Sequence[Row]) -> dict[str, Any]:
    """One row that has each column's first value that is not null."""
    columns: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            if columns.get(name) is None:
                columns[name] = value
    return columns


def _loaded(reader: Callable[[Row], T], rows: Sequence[FileRow]) -> Loaded[T]:
    def read(row: FileRow) -> T:
        try:
            return read_row(reader, row)
        except UnusableRowError as error:
            raise row.error(str(error), "delete this row, or give its messages texts") from error

    return Loaded([read(row) for row in rows], ignored_fields(rows))


def ignored_fields(rows: Sequence[FileRow]) -> dict[str, int]:
    return dict(Counter(name for row in rows for name in sorted(fields.ignored_message_fields(row.fields))))


def read_row(reader: Callable[[Row], T], row: FileRow, form: str = "") -> T:
    """What `reader` makes of the row; its errors say where the row stands."""
    try:
        result = row.read(reader)
        for record in result if isinstance(result, list) else [result]:
            if isinstance(record, Prompt | Example | Preference):
                dump_json(to_json(record)).encode()
    except DataError as error:
        raise DataError(error.what + form, where=row.where, remedy=error.remedy) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise row.error(f"cannot be written as JSON: {shorten(str(error), 200)}") from error
    return result


def _why_unusable(preference: Preference) -> DropReason | None:
    """Why a pair prefers nothing, or contradicts its own scores; None where it does neither."""
    reason = fault_of(preference.prompt)
    chosen, rejected = preference.chosen.strip(), preference.rejected.strip()
    if reason is None and not chosen:
        return DropReason.EMPTY_CHOSEN
    if reason is None and not rejected:
        return DropReason.EMPTY_REJECTED
    if reason is None and chosen == rejected:
        return DropReason.IDENTICAL
    if reason is None and preference.margin is not None and preference.margin <= 0:
        return DropReason.EQUAL_SCORES if preference.margin == 0 else DropReason.REJECTED_SCORES_HIGHER
    return reason


def _provenance(preference: Preference, row: FileRow, source: str, form: str) -> Provenance | None:
    """Where a pair stands, with what else its row holds; the provenance that a row of Fairlead's own names stays."""
    origin = preference.provenance
    if isinstance(origin, Sampled) or (origin is None and row.fields.get("provenance") is not None):
        return origin
    origin = origin or Imported()
    if origin.source:
        return origin
    columns = {**leftovers(row.fields, form), **origin.columns}
    return replace(origin, source=source, row=row.number, format=form, columns=columns)
