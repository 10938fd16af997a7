"""Rows from files and hubs: prompts, SFT examples and preferences, with every bad row named or counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fairlead.data import fields, formats
from fairlead.data.fields import Row, UnusableRowError
from fairlead.data.formats import FORMATS
from fairlead.errors import DataError, some
from fairlead.files import dump_json, read_json, read_jsonl, read_text
from fairlead.records import (
    DropReason,
    Example,
    Imported,
    Message,
    Preference,
    Prompt,
    Provenance,
    Sampled,
    to_json,
)

T = TypeVar("T")

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


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
    """

    preferences: list[Preference]
    places: list[str]
    dropped: list[Dropped]
    format: str
    outcomes: Mapping[str, int] = field(default_factory=dict)

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
class _Placed:
    """A row with its number (its line, in a file of JSON lines) and the words that locate it in an error."""

    number: int
    where: str
    row: Row


def read_prompts(path: Path) -> list[Prompt]:
    """Rows `{"prompt": str | messages}` or `{"messages": [..., user]}`, with optional `gold` and `cluster`.

    Raises:
        DataError: if the file cannot be read, has no rows, or a row is no prompt.
    """
    return [_located(_prompt, placed) for placed in _rows(path)]


def read_examples(path: Path) -> list[Example]:
    """Rows `{"prompt": …, "answer" | "completion": str | [assistant]}` or `{"messages": [..., assistant]}`.

    Raises:
        DataError: if the file cannot be read, has no rows, or a row is no example.
    """
    return [_located(_example, placed) for placed in _rows(path)]


def prompts_of(path: Path) -> list[Prompt]:
    """The prompts of a file of prompts, of SFT examples or of preferences, whichever its first row is.

    Raises:
        DataError: if the file cannot be read, has no rows, or a row is none of them.
    """
    first = _rows(path)[0].row
    if first.keys() & {"chosen", "preferred_output", "chosen_response", "generations", "output_1", "fields"}:
        return [pair.prompt for pair in read_preferences(str(Path(path).resolve()), Path()).preferences]
    if first.keys() & {"answer", "completion"}:
        return [example.prompt for example in read_examples(path)]
    turns = first.get("messages")
    if "prompt" not in first and isinstance(turns, list) and turns and turns[-1].get("role") == "assistant":
        return [example.prompt for example in read_examples(path)]
    return read_prompts(path)


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
        raise DataError(f"unknown format {format!r}", where=source, remedy=f"one of {', '.join(FORMATS)}")
    path = Path(folder) / source
    is_file = path.exists() or path.suffix.lower() in SUFFIXES or not _HUB_ID.fullmatch(source)
    rows = _saved_rows(path, split) if path.is_dir() else _rows(path) if is_file else _hub_rows(source, split)
    name = format or _located(formats.detect, rows[0])
    preferences: list[Preference] = []
    places: list[str] = []
    dropped: list[Dropped] = []
    outcomes: Counter[str] = Counter()
    for placed in rows:
        try:
            preference = _located(FORMATS[name], placed, f" (format {name})")
            if isinstance(preference.provenance, Imported) and preference.provenance.outcome:
                outcomes[preference.provenance.outcome] += 1
            _check_usable(preference)
        except UnusableRowError as error:
            dropped.append(Dropped(placed.where, error.reason, str(placed.number)))
            continue
        preferences.append(replace(preference, provenance=_provenance(preference, placed, source, name)))
        places.append(str(placed.number))
    if not preferences and not allow_none:
        raise DataError(
            f"no usable pair in {len(rows)} rows (format {name}); the first: {dropped[0].reason}",
            where=source,
            remedy="check the rows, or name their form in data.preferences_format",
        )
    return LoadedPreferences(preferences, places, dropped, name, dict(outcomes))


def _rows(path: Path) -> list[_Placed]:
    """The rows of a file.

    Raises:
        DataError: if it cannot be read, has no rows, or holds something that is no row.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".json" if read_text(path).lstrip().startswith("["):
            found = ((number, f"{path}: row {number}", row) for number, row in enumerate(read_json(path), 1))
        case ".json" | ".jsonl" | ".ndjson":
            found = ((line, f"{path}:{line}", row) for line, row in read_jsonl(path))
        case ".parquet":
            found = ((number, f"{path}: row {number}", row) for number, row in enumerate(_parquet(path), 1))
        case _:
            read_text(path)  # a missing file or a folder is the likelier fault
            raise DataError("unknown kind of file", where=str(path), remedy=f"one of {', '.join(SUFFIXES)}")
    return _placed(found, str(path))


def _parquet(path: Path) -> list[Any]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    if not path.is_file():
        read_text(path)
    try:
        return list(pq.read_table(path).to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a Parquet file: {_first_line(error)}", where=str(path)) from error


def _saved_rows(folder: Path, split: str) -> list[_Placed]:
    """The rows of a folder that `datasets` saved: one split, or several of which `split` is read."""
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(str(folder))
        rows = list(saved[split] if isinstance(saved, DatasetDict) else saved)
    except KeyError as error:
        raise DataError(f"no split {split!r}", where=str(folder), remedy=f"one of {some(saved)}") from error
    except Exception as error:  # pyarrow, json and the file system raise unrelated types; the cause is kept
        raise DataError(
            f"is a folder, and no data set can be read from it: {_first_line(error)}",
            where=str(folder),
            remedy="name a file in it, or a folder written by Dataset.save_to_disk",
        ) from error
    return _placed(((number, f"{folder}: row {number}", row) for number, row in enumerate(rows, 1)), str(folder))


def _hub_rows(name: str, split: str) -> list[_Placed]:
    from datasets import load_dataset

    try:
        rows = list(load_dataset(name, split=split))
    except Exception as error:  # the hub client raises a dozen unrelated types; the cause is kept
        raise DataError(
            f"no file of this name, and the hub gives no data set: {_first_line(error)}",
            where=name,
            remedy="check the path or the id (data.preferences) and the split (data.preferences_split)",
        ) from error
    where = f"{name}[{split}]"
    return _placed(((number, f"{where}: row {number}", row) for number, row in enumerate(rows, 1)), where)


def _placed(found: Iterable[tuple[int, str, Any]], source: str) -> list[_Placed]:
    placed = []
    for number, where, row in found:
        if not isinstance(row, Mapping):
            raise DataError("not an object", where=where, remedy='every row is an object such as {"prompt": …}')
        placed.append(_Placed(number, where, row))
    if not placed:
        raise DataError("has no rows", where=source)
    return placed


def _located(read: Callable[[Row], T], placed: _Placed, form: str = "") -> T:
    """What `read` makes of the row; its errors say where the row stands."""
    try:
        result = read(placed.row)
        if isinstance(result, Prompt | Example | Preference):
            dump_json(to_json(result)).encode()
    except DataError as error:
        raise DataError(error.what + form, where=placed.where, remedy=error.remedy) from error
    except (TypeError, ValueError) as error:
        raise DataError(f"cannot be written as JSON: {_first_line(error)}", where=placed.where) from error
    return result


def _prompt(row: Row) -> Prompt:
    messages = None if "prompt" in row or "messages" not in row else fields.messages_field(row, "messages")
    prompt = fields.prompt_field(row) if messages is None else Prompt(messages, **fields.about(row))
    fault = _fault(prompt)
    if fault:
        raise DataError(fault)
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
        prompt = _prompt({**row, "messages": [{"role": m.role, "content": m.content} for m in turns[:-1]]})
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


def _provenance(preference: Preference, placed: _Placed, source: str, form: str) -> Provenance | None:
    """Where a pair stands, with what else its row holds; the provenance that a row of Fairlead's own names stays."""
    origin = preference.provenance
    if isinstance(origin, Sampled) or (origin is None and placed.row.get("provenance") is not None):
        return origin
    origin = origin or Imported()
    if origin.source:
        return origin
    columns = {**formats.leftovers(placed.row, form), **origin.columns}
    return replace(origin, source=source, row=placed.number, format=form, columns=columns)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
