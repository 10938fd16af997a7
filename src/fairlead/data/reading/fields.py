"""Reads single fields of published rows: each is what it should be, or an error that names it.

Knows nothing of files: an error here says what is wrong with the row, and the caller says where the row stands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from fairlead.data.reading.rows import Row
from fairlead.errors import DataError, some
from fairlead.escape import shorten
from fairlead.records import DropReason, Imported, Message, Prompt, Provenance, Role

S = TypeVar("S")
R = TypeVar("R")

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
}


SOURCE_FIELDS = ("source", "context", "contexts", "retrieved_contexts")
_PROVENANCE: TypeAdapter[Provenance] = TypeAdapter(Annotated[Provenance, Field(discriminator="kind")])


class UnusableRowError(Exception):
    """A well-formed row that holds no preference."""

    def __init__(self, reason: DropReason) -> None:
        super().__init__(str(reason))
        self.reason = reason


def or_reason(read: Callable[[S], R], source: S) -> R | DropReason:
    """What a reader makes of a source, or why that can be no row."""
    try:
        return read(source)
    except UnusableRowError as error:
        return error.reason


def field(row: Row, name: str) -> Any:
    """A field that must be there and not null."""
    if row.get(name) is None:
        raise DataError(
            f"{'null' if name in row else 'no'} field {name!r}",
            remedy=f"the row has {some(map(str, row), 8) or 'no fields'}",
        )
    return row[name]


def text_field(row: Row, name: str) -> str:
    value = field(row, name)
    if not isinstance(value, str):
        raise wrong(name, "a string", value)
    return value


def prompt_and_answer(row: Row) -> tuple[str, str]:
    """The texts of a row {"prompt": text, "answer": text}."""
    return text_field(row, "prompt"), text_field(row, "answer")


def instruction_and_input(row: Row) -> str:
    """`instruction`, and below it the `input` that it speaks of, where there is one."""
    spoken_of = row.get("input")
    if spoken_of is not None and not isinstance(spoken_of, str):
        raise wrong("input", "a string", spoken_of)
    return "\n\n".join(part for part in (text_field(row, "instruction"), spoken_of) if part)


def messages_field(row: Row, name: str) -> tuple[Message, ...]:
    """Turns as {role, content} or {from, value}; at least one."""
    value = field(row, name)
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise wrong(name, "a list of messages (at least one)", value)
    return tuple(message_of(turn, f"{name}[{number}]") for number, turn in enumerate(value))


def prompt_field(row: Row) -> Prompt:
    """`prompt` as a string, as messages, or as an object with messages, with the row's gold and cluster."""
    value = field(row, "prompt")
    if isinstance(value, str):
        return Prompt.of(value, **about(row))
    if isinstance(value, Mapping):
        return Prompt(messages_field(value, "messages"), **about(value))
    return Prompt(messages_field(row, "prompt"), **about(row))


def about(row: Row) -> dict[str, Any]:
    """The optional `gold` and `cluster` of a row, as keywords of `Prompt`."""
    cluster = row.get("cluster")
    if cluster is not None and not isinstance(cluster, str):
        raise wrong("cluster", "a string", cluster)
    return {"gold": object_field(row, "gold"), "cluster": cluster or ""}


def source_field(row: Row) -> str | None:
    """The text that an answer to the row has to rest on: a string, or a list of passages; None where it has none.

    Raises:
        DataError: if it is neither.
    """
    gold = object_field(row, "gold")
    for name, value in ((name, holder.get(name)) for holder in (row, gold) for name in SOURCE_FIELDS):
        if value is None:
            continue
        passages = [value] if isinstance(value, str) else value
        if not isinstance(passages, Sequence) or not all(isinstance(passage, str) for passage in passages):
            raise wrong(name, "a string or a list of strings", value)
        return "\n\n".join(passages).strip() or None
    return None


def object_field(row: Row, name: str) -> dict[str, Any]:
    """An optional object, or the JSON text of one: tables cannot hold objects of differing fields."""
    value = row.get(name)
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise wrong(name, "an object", value) from error
    if value is not None and not isinstance(value, Mapping):
        raise wrong(name, "an object", value)
    return dict(value or {})


def provenance_field(row: Row) -> Provenance | None:
    """The `provenance` that Fairlead wrote, None where there is none; an object of another form is kept as a column.

    Raises:
        DataError: if it is no object, or an incomplete one of Fairlead's.
    """
    value = object_field(row, "provenance")
    if value.get("kind") not in ("sampled", "imported"):
        return Imported(columns={"provenance": value}) if value else None
    try:
        return _PROVENANCE.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:]))
        raise DataError(f"field 'provenance.{where}' does not fit: {first['msg'].lower()}") from error


_READ_OF_MESSAGE = {"role", "content", "from", "value"}
_COLUMNS_OF_MESSAGES = (
    "prompt",
    "messages",
    "conversations",
    "input",
    "completion",
    "answer",
    "chosen",
    "rejected",
    "preferred_output",
    "non_preferred_output",
)


def ignored_message_fields(row: Row) -> set[str]:
    """Fields of the row's messages that hold something and are not read, such as tool_calls, name and weight."""
    values = [row.get(name) for name in _COLUMNS_OF_MESSAGES]
    values += [value.get("messages") for value in values if isinstance(value, Mapping)]
    turns = [turn for value in values for turn in (value if isinstance(value, list) else [value])]
    return {
        str(name)
        for turn in turns
        if isinstance(turn, Mapping) and ("role" in turn or "from" in turn)
        for name, value in turn.items()
        if name not in _READ_OF_MESSAGE and value not in (None, "", [], {})
    }


def message_of(turn: Any, where: str) -> Message:
    """One turn; `where` names it in errors.

    Raises:
        DataError: if it is not a turn.
        UnusableRowError: if it holds tool calls and no text.
    """
    if not isinstance(turn, Mapping):
        raise wrong(where, "an object with role and content", turn)
    names = ("from", "value") if "from" in turn else ("role", "content")
    speaker, content = (turn.get(name) for name in names)
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        content = "".join(text_field(part, "text") for part in content)
    if not isinstance(speaker, str) or speaker not in _ROLES:
        raise wrong(f"{where}.{names[0]}", f"one of {', '.join(_ROLES)}", speaker)
    if not content and (turn.get("tool_calls") or turn.get("function_call")):
        raise UnusableRowError(DropReason.ONLY_TOOL_CALLS)
    if not isinstance(content, str):
        raise wrong(f"{where}.{names[1]}", "a string", content)
    return Message(_ROLES[speaker], content)


def number(value: Any, name: str) -> float:
    """A finite number that is no truth value."""
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(float(value)):
            return float(value)
    except OverflowError:  # an integer beyond the largest float
        pass
    raise wrong(name, "a finite number", value)


def wrong(name: str, expected: str, value: Any) -> DataError:
    """The error of a field that holds something else than is expected."""
    return DataError(f"field {shorten(name)!r} must be {expected}, not {quoted(value)}")


def quoted(value: Any) -> str:
    """A value as a message quotes it: its beginning, on one line."""
    try:
        return shorten(repr(value), 60)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of too many digits
        return f"a value of type {type(value).__name__}"
