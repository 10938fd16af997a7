"""Rows from files and hubs: prompts, SFT examples and preferences, with every bad row named or counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from fairlead.data.reading import fields, formats
from fairlead.data.reading.fields import UnusableRowError
from fairlead.data.reading.formats import FORMATS
from fairlead.data.reading.rows import FileRow, Row, read_rows, read_source
from fairlead.errors import DataError, known_names
from fairlead.escape import shorten
from fairlead.files import dump_json
from fairlead.records import (
    DropReason,
    Example,
    Imported,
    Message,
    Preference,
    Prompt,
    Provenance,
    Sampled,
    message_dicts,
    to_json,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Dropped:
    """A row that was left out: where it stands (in words, and by number), and why."""

    where: str
    reason: DropReason
    place: str


@dataclass(frozen=True)
class LoadedPreferences:
    """The pairs of a file or data set, and the rows that make none.

    Attributes:
        places: number of each pair's row; its line, in a file of JSON lines.
        format: the name in `formats.FORMATS` under which the rows were read.
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

    @property
    def dropped_by_reason(self) -> dict[DropReason, int]:
        """How many rows were left out, by reason, the commonest first."""
        return dict(Counter(row.reason for row in self.dropped).most_common())

    @property
    def left_out(self) -> str:
        """What was left out in words, "" where nothing was."""
        return left_out(self.dropped_by_reason, self.ignored_fields)


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


def load_prompts(path: Path) -> Loaded[Prompt]:
    """Rows `{"prompt": str | messages}` or `{"messages": [..., user]}`, with optional `gold` and `cluster`.

    Raises:
        DataError: if the file cannot be read, has no rows, or a row is no prompt.
    """
    return _loaded(_prompt, read_rows(path))


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of `load_prompts`."""
    return load_prompts(path).rows


def load_examples(path: Path) -> Loaded[Example]:
    """Rows `{"prompt": …, "answer" | "completion": str | [assistant]}` or `{"messages": [..., assistant]}`.

    Raises:
        DataError: if the file cannot be read, has no rows, or a row is no example.
    """
    return _loaded(_example, read_rows(path))


def read_examples(path: Path) -> list[Example]:
    """The examples of `load_examples`."""
    return load_examples(path).rows


def prompts_of(path: Path) -> list[Prompt]:
    """The prompts of a file of prompts, of SFT examples or of preferences, whichever its columns say.

    Raises:
        DataError: if the file cannot be read, has no rows, or a row is none of them.
    """
    columns = first_known_values([row.fields for row in read_rows(path)])
    if columns.keys() & _OF_PREFERENCES:
        return [pair.prompt for pair in read_preferences(str(Path(path).resolve()), Path()).preferences]
    turns = columns.get("messages")
    last = turns[-1] if isinstance(turns, list) and turns else None
    is_conversation = "prompt" not in columns and isinstance(last, Mapping) and last.get("role") == "assistant"
    if columns.keys() & {"answer", "completion"} or is_conversation:
        return [example.prompt for example in read_examples(path)]
    return read_prompts(path)


_OF_PREFERENCES = {"chosen", "preferred_output", "chosen_response", "generations", "output_1", "fields"}


def read_preferences(
    source: str, folder: Path, *, split: str = "train", format: str | None = None, allow_none: bool = False
) -> LoadedPreferences:
    """Preference pairs from a JSON, JSONL or Parquet file, the folder of a saved data set, or the hub.

    Rows that hold no preference (an empty or identical answer, equal scores) are dropped and listed.

    Args:
        source: path, relative to `folder`; a name that is no file is a hub id.
        split: split of a data set, saved or on the hub.
        format: a name in `formats.FORMATS`; None takes the form of the first row.
        allow_none: whether a source without any usable pair is an answer too.

    Raises:
        DataError: if the source cannot be read, a row is malformed, or no pair is left.
    """
    if format is not None and format not in FORMATS:
        raise DataError(f"unknown format {format!r}", where=source, remedy=known_names(format, FORMATS))
    rows = read_source(source, folder, split)
    name = format or _detected(rows)
    preferences: list[Preference] = []
    places: list[str] = []
    dropped: list[Dropped] = []
    outcomes: Counter[str] = Counter()
    for row in rows:
        try:
            preference = _read(FORMATS[name], row, f" (format {name})")
            if isinstance(preference.provenance, Imported) and preference.provenance.outcome:
                outcomes[preference.provenance.outcome] += 1
            _check_usable(preference)
        except UnusableRowError as error:
            dropped.append(Dropped(row.where, error.reason, str(row.number)))
            continue
        preferences.append(replace(preference, provenance=_provenance(preference, row, source, name)))
        places.append(str(row.number))
    if not preferences and not allow_none:
        raise DataError(
            f"no usable pair in {len(rows)} rows (format {name}); the first: {dropped[0].reason}",
            where=source,
            remedy="check the rows, or name their form in data.preferences_format",
        )
    return LoadedPreferences(preferences, places, dropped, name, dict(outcomes), _ignored_fields(rows))


def _detected(rows: Sequence[FileRow]) -> str:
    """The name of the form of all rows; a field that is null in one row is looked up in the others."""
    return FileRow(rows[0].number, rows[0].where, first_known_values([row.fields for row in rows])).read(formats.detect)


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
            return _read(reader, row)
        except UnusableRowError as error:
            raise row.error(str(error), "delete this row, or give its messages texts") from error

    return Loaded([read(row) for row in rows], _ignored_fields(rows))


def _ignored_fields(rows: Sequence[FileRow]) -> dict[str, int]:
    return dict(Counter(name for row in rows for name in sorted(fields.ignored_message_fields(row.fields))))


def _read(reader: Callable[[Row], T], row: FileRow, form: str = "") -> T:
    """What `reader` makes of the row; its errors say where the row stands."""
    try:
        result = row.read(reader)
        if isinstance(result, Prompt | Example | Preference):
            dump_json(to_json(result)).encode()
    except DataError as error:
        raise DataError(error.what + form, where=row.where, remedy=error.remedy) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise row.error(f"cannot be written as JSON: {shorten(str(error), 200)}") from error
    return result


def _prompt(row: Row) -> Prompt:
    messages = None if "prompt" in row or "messages" not in row else fields.messages_field(row, "messages")
    prompt = fields.prompt_field(row) if messages is None else Prompt(messages, **fields.about(row))
    problem = _fault(prompt)
    if problem:
        raise DataError(problem)
    return prompt


def _example(row: Row) -> Example:
    if "prompt" in row or "messages" not in row:
        prompt = _prompt(row)
        name = "completion" if "completion" in row and "answer" not in row else "answer"
        answers = _answer_turns(row, name)
    else:
        turns = fields.messages_field(row, "messages")
        if len(turns) < 2:
            raise DataError("'messages' must hold a prompt and an answer")
        prompt = _prompt({**row, "messages": message_dicts(turns[:-1])})
        name, answers = "messages", turns[-1:]
    if len(answers) != 1 or answers[0].role != "assistant":
        raise DataError(f"{name!r} must end in one assistant message")
    if not answers[0].content.strip():
        raise DataError(f"the answer in {name!r} is empty")
    return Example(prompt, answers[0].content)


def _answer_turns(row: Row, name: str) -> tuple[Message, ...]:
    if isinstance(fields.field(row, name), str):
        return (Message("assistant", row[name]),)
    return fields.messages_field(row, name)


def _fault(prompt: Prompt) -> DropReason | None:
    """Why a prompt cannot be asked, None if it can."""
    if not prompt.messages or not prompt.messages[-1].content.strip():
        return DropReason.EMPTY_PROMPT
    if prompt.messages[-1].role == "assistant":
        return DropReason.PROMPT_ENDS_IN_ANSWER
    return None


def _check_usable(preference: Preference) -> None:
    """Raises UnusableRowError if the pair prefers nothing, or contradicts its own scores."""
    reason = _fault(preference.prompt)
    chosen, rejected = preference.chosen.strip(), preference.rejected.strip()
    if reason is None and not chosen:
        reason = DropReason.EMPTY_CHOSEN
    elif reason is None and not rejected:
        reason = DropReason.EMPTY_REJECTED
    elif reason is None and chosen == rejected:
        reason = DropReason.IDENTICAL
    elif reason is None and preference.margin is not None and preference.margin <= 0:
        reason = DropReason.EQUAL_SCORES if preference.margin == 0 else DropReason.REJECTED_SCORES_HIGHER
    if reason is not None:
        raise UnusableRowError(reason)


def _provenance(preference: Preference, row: FileRow, source: str, form: str) -> Provenance | None:
    """Where a pair stands, with what else its row holds; the provenance that a row of Fairlead's own names stays."""
    origin = preference.provenance
    if isinstance(origin, Sampled) or (origin is None and row.fields.get("provenance") is not None):
        return origin
    origin = origin or Imported()
    if origin.source:
        return origin
    columns = {**formats.leftovers(row.fields, form), **origin.columns}
    return replace(origin, source=source, row=row.number, format=form, columns=columns)
