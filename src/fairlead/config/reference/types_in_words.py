"""The types of the config in words, as the page of all keys shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from fairlead.config.base import Distinct, PathMark, Section, alternatives
from fairlead.config.values.endpoint import EndpointUrl, KeyVariable
from fairlead.config.values.patterns import Pattern

Link = Callable[[type[Section]], str]  # the Markdown link to the table of a section

_BOUNDS = ("gt", "ge", "lt", "le", "min_length", "max_length")
_END = "...\n"  # which PyYAML puts after a scalar
_PATHS = {
    "file": "path",
    "function": "`file.py:function`",
    "model": "folder or hub id",
    "weights": "folder or hub id",
    "dataset": "file or hub id",
}
_PLURALS = {
    "text": "texts",
    "integer": "integers",
    "number": "numbers",
    "path": "paths",
    "folder or hub id": "folders or hub ids",
}
_SCALARS = {str: "text", int: "integer", float: "number", bool: "`true` or `false`", type(None): "`null`", Any: "any"}
_KINDS = {
    get_args(Pattern)[1]: "regular expression",
    get_args(EndpointUrl)[1]: "address",
    get_args(KeyVariable)[1]: "name of an environment variable",
}


def type_in_words(annotation: Any, marks: Sequence[Any], link: Link) -> str:
    """What a key takes, with its bounds, as Markdown.

    Args:
        marks: what stands in `Annotated` around the type, as pydantic's `FieldInfo.metadata`.
    """
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return type_in_words(inner, [*marks, *_flat(more)], link)
    members = list(alternatives_with_marks(annotation))
    if len(members) > 1:
        choices = dict.fromkeys(type_in_words(member, marks, link) for member in members)
        return _either(sorted(choices, key=lambda choice: choice == "`null`"))
    words = _kind(annotation, marks, link)
    bounds = _bounds(marks, counted=get_origin(annotation) in (list, dict) or annotation is str)
    return f"{words} ({', '.join(bounds)})" if bounds else words


def alternatives_with_marks(annotation: Any) -> Iterator[Any]:
    """The members of a union, each with its own `Annotated`; the annotation itself if it is none."""
    if any(member is not annotation for member in alternatives(annotation)) and get_origin(annotation) is not Annotated:
        yield from get_args(annotation)
    else:
        yield annotation


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    """Every section that stands anywhere in a type."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        if get_origin(annotation) is not Literal:
            yield from sections_in(argument)


def default_in_words(section: type[Section], key: str) -> str:
    """The default of a key as it would be written in the YAML, or that there is none."""
    field = section.fields_by_key()[key]
    if key in section.filled_in:
        return section.filled_in[key]
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, Section):
        return "its defaults"
    text = yaml.safe_dump(default, default_flow_style=True, allow_unicode=True, width=math.inf)
    return f"`{text.removesuffix(_END).strip()}`"


def _kind(annotation: Any, marks: Sequence[Any], link: Link) -> str:
    path = next((mark for mark in marks if isinstance(mark, PathMark)), None)
    kind = next((word for validator, word in _KINDS.items() if validator in marks), None)
    if path is not None:
        return _PATHS[path.names]
    if kind is not None:
        return kind
    if get_origin(annotation) is Literal:
        return _either([f"`{value}`" for value in get_args(annotation)])
    if get_origin(annotation) is list:
        inner = type_in_words(get_args(annotation)[0], [], link)
        words, bracket, bounds = inner.partition(" (")
        return f"list of {_PLURALS.get(words, words)}{bracket}{bounds}"
    if get_origin(annotation) is dict:
        key, value = (type_in_words(argument, [], link) for argument in get_args(annotation))
        return f"mapping of {key} to {value}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return link(annotation)
    return _SCALARS[annotation]


def _bounds(marks: Sequence[Any], *, counted: bool) -> list[str]:
    """The bounds of a number, and how long a text or a list may be."""
    bounds = {name: value for mark in marks for name in _BOUNDS if (value := getattr(mark, name, None)) is not None}
    above, least, below, most = (bounds.get(name) for name in ("gt", "ge", "lt", "le"))
    words = []
    if least is not None:
        words.append(f"{least:,} or more" if most is None else f"{least:,} to {most:,}")
    elif most is not None and above is None:
        words.append(f"{most:,} or less")
    elif most is not None:
        words += [f"above {above:,}", f"{most:,} or less"]
    elif above is not None:
        words.append(f"above {above:,}")
    if below is not None:
        words.append(f"below {below:,}")
    if counted and "min_length" in bounds:
        words.append("not empty" if bounds["min_length"] == 1 else f"{bounds['min_length']} or more")
    if counted and "max_length" in bounds:
        words.append(f"at most {bounds['max_length']} characters")
    return [*words, *(["none twice"] if Distinct in marks else [])]


def _flat(marks: Sequence[Any]) -> Iterator[Any]:
    for mark in marks:
        if isinstance(mark, FieldInfo):
            yield from mark.metadata
        else:
            yield mark


def _either(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + words[-1]
