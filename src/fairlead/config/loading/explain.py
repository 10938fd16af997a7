"""Pydantic's errors as text for people: keys as the YAML has them, what is wrong, and what would be right."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fairlead.config.base import NeverQuoted, Section, alternatives, item_annotation
from fairlead.config.loading.judge_text import UNUSABLE_JUDGE
from fairlead.errors import known_names
from fairlead.escape import shorten

MOST_PROBLEMS = 8
_ABSENT = object()


@dataclass(frozen=True)
class _Problem:
    """One problem.

    Attributes:
        path: the key as it is written.
        given: the value that was written, for the end of the message.
        alternative: whether it is about one of several types that the value may have.
    """

    path: tuple[str | int, ...]
    message: str
    given: str = ""
    alternative: bool = False

    def __str__(self) -> str:
        return (f"{_dotted(self.path)}: " if self.path else "") + self.message + self.given


def explain(error: ValidationError, data: Any, section: type[Section]) -> str:
    """All problems of a section in one line, each as `key: what is wrong`.

    Args:
        data: what was validated.
        section: the type it was validated as.
    """
    problems = _merged([_problem(item, data, section) for item in error.errors(include_url=False)])
    lines = [str(problem) for problem in problems]
    more = [f"and {len(lines) - MOST_PROBLEMS} more problems"] if len(lines) > MOST_PROBLEMS else []
    return "; ".join(lines[:MOST_PROBLEMS] + more)


def _dotted(path: Sequence[str | int]) -> str:
    return shorten(".".join(map(str, path)), 120)


def _merged(problems: Iterable[_Problem]) -> list[_Problem]:
    """Joins the problems of a value's alternatives; if one fits except for an item, only that item is named."""
    problems = list(problems)
    merged: dict[tuple[str | int, ...], _Problem] = {}
    for problem in problems:
        deeper = any(other.path[: len(problem.path)] == problem.path != other.path for other in problems)
        if problem.alternative and deeper:
            continue
        before = merged.get(problem.path)
        if before is None:
            merged[problem.path] = problem
        elif problem.message not in before.message:
            joint = " or " if problem.alternative and before.alternative else "; "
            merged[problem.path] = replace(problem, message=f"{before.message}{joint}{problem.message}")
    return list(merged.values())


def _problem(item: ErrorDetails, data: Any, section: type[Section]) -> _Problem:
    kind = item["type"]
    path, alternative = _written(item["loc"], data, missing=kind == "missing")
    parents = _types_at(path[:-1], data, section)
    secret = bool(path) and any(_is_secret(parent, str(path[-1])) for parent in parents)
    quoted = "" if secret else _given(item["input"])
    if kind == UNUSABLE_JUDGE:
        return _Problem(path, str(item["msg"]))
    if kind == "extra_forbidden":
        return _Problem(path, _unknown_key(str(path[-1]), parents))
    if kind == "missing":
        return _Problem(path, "is missing")
    if kind == "invalid_key" or (kind == "string_type" and item["loc"][-1] == "[key]"):
        return _Problem(path, "a key must be text: put it in quotes")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _Problem((*path, "kind"), _unknown_kind(item["input"], _types_at(path, data, section, chosen=False)))
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return _Problem(path, "must be a mapping of keys to values", quoted, alternative)
    if kind == "literal_error":
        return _unknown_choice(item, path, alternative)
    message = str(item["msg"]).removeprefix("Value error, ")
    if kind == "value_error" and not item["loc"]:
        return _Problem((), message)
    return _Problem(path, f"{message[0].lower()}{message[1:]}", quoted, alternative)


def _unknown_kind(value: Any, sections: Iterable[type[Section]]) -> str:
    kind = value.get("kind") if isinstance(value, dict) else None
    known = known_names(kind, [name for section in sections for name in _kinds(section)])
    return f"is missing, {known}" if kind is None else f"unknown kind {shorten(str(kind))}, {known}"


def _unknown_choice(item: ErrorDetails, path: tuple[str | int, ...], alternative: bool) -> _Problem:
    """A value, or the key of a mapping, that is none of a few words."""
    choices = re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))
    if alternative and item["loc"][-1] != "[key]":
        return _Problem(path, " or ".join(choices), _given(item["input"]), alternative)
    value = path[-1] if item["loc"][-1] == "[key]" else item["input"]
    quoted = _given(value).removeprefix(" (given: ").removesuffix(")") or "of another type"
    return _Problem(path, f"unknown value {quoted}, {known_names(value, choices)}")


def _given(value: Any) -> str:
    """The value that was written, where it is short enough to quote."""
    if isinstance(value, str):
        return f" (given: {shorten(value)!r})"
    if value is None or isinstance(value, bool):
        return f" (given: {'null' if value is None else str(value).lower()})"
    if isinstance(value, int | float):
        return f" (given: {_number(value)})"
    return ""


def _number(value: float) -> str:
    try:
        return shorten(str(value))
    except ValueError:  # more digits than Python converts
        return "a number of thousands of digits"


def _written(loc: Sequence[str | int], data: Any, *, missing: bool) -> tuple[tuple[str | int, ...], bool]:
    """The part of a location that people wrote: without the names of a union's members, which pydantic adds.

    Returns:
        The path, and whether names of members were left out.
    """
    path: list[str | int] = []
    dropped = False
    for number, part in enumerate(loc):
        last = number == len(loc) - 1
        item = _item(data, part)
        if item is not _ABSENT:
            path.append(part)
            data = item
        elif missing and last:
            path.append(part)
        elif part != "[key]":
            dropped = True
    return tuple(path), dropped


def _types_at(
    path: Sequence[str | int], data: Any, section: type[Section], *, chosen: bool = True
) -> list[type[Section]]:
    """The sections that may stand at a path.

    Args:
        chosen: of several kinds, only the one whose `kind` is written there.
    """
    annotations: list[Any] = [section]
    for part in path:
        field_types: list[Any] = []
        for member in _sections(annotations, data):
            field = member.fields_by_key().get(str(part))
            field_types += [field.annotation] if field else []
        if isinstance(data, list) or not field_types:
            field_types += [item for annotation in annotations if (item := item_annotation(annotation)) is not None]
        annotations = field_types
        data = _item(data, part)
    return _sections(annotations, data if chosen else None)


def _item(data: Any, part: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(part, _ABSENT)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return _ABSENT


def _sections(annotations: Iterable[Any], data: Any) -> list[type[Section]]:
    """The sections among the alternatives of some types; of several kinds the one that the data names."""
    members = [
        member
        for annotation in annotations
        for member in alternatives(annotation)
        if isinstance(member, type) and issubclass(member, Section)
    ]
    kind = data.get("kind") if isinstance(data, dict) else None
    return [member for member in members if kind in _kinds(member)] or members


def _kinds(section: type[Section]) -> tuple[str, ...]:
    """The values of `kind` that name a section; none for a section without kinds."""
    field = section.model_fields.get("kind")
    return get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()


def _unknown_key(key: str, sections: Sequence[type[Section]]) -> str:
    """What to write in place of an unknown key."""
    for section in sections:
        if key in section.renamed:
            return f"was renamed to {section.renamed[key]}"
    known = [name for section in sections for name in section.fields_by_key()]
    return f"unknown key, {known_names(key, dict.fromkeys(known))}" if known else "unknown key"


def _is_secret(section: type[Section], key: str) -> bool:
    field = section.fields_by_key().get(key)
    return field is not None and NeverQuoted in field.metadata
