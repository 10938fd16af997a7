"""Reads YAML files: one mapping, with scalars as in YAML 1.2, and errors that name the line.

Refused with one line: a key that stands twice in one mapping (PyYAML would silently take the last), tags beyond JSON's
types, values whose text does not fit their type, and files that are too large, too deeply nested, or grow without
bounds by aliases. `yes`, `no`, `on` and `off` are words and dates are text, as in YAML 1.2.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from fairlead.errors import ConfigError
from fairlead.escape import shorten

MAX_BYTES = 250_000
MAX_DEPTH = 60
MAX_VALUES = 100_000

_CORE = "tag:yaml.org,2002:"
_TYPES = {"null", "bool", "int", "float", "str", "seq", "map"}
# What PyYAML's constructors raise on a text that does not fit, such as `!!int ""`.
_UNREADABLE = (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        FileNotFoundError: if there is no such file.
        ConfigError: for everything else, with the line where there is one.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=str(path)) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(
            f"has {len(data):,} bytes, at most {MAX_BYTES:,} are read", where=str(path), remedy="move data into files"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError("not UTF-8", where=f"{path}:{line}", remedy="save it as UTF-8") from error
    content = parse_yaml(text, where=str(path))
    if not isinstance(content, dict):
        raise ConfigError("must be a mapping of keys to values", where=str(path), remedy="see fairlead init")
    return content


def parse_yaml(text: str, *, where: str) -> Any:
    """The value that a YAML text holds.

    Raises:
        ConfigError: if it is not YAML, or YAML that is refused.
    """
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError(f"not YAML: {error.reason} (#x{error.character:04x})", where=f"{where}:{line}") from error
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        raise ConfigError(_problem(error), where=f"{where}{at}") from error
    except _UNREADABLE as error:  # of the scanner, such as an escape beyond Unicode
        raise ConfigError("not YAML: not readable", where=f"{where}:{loader.get_mark().line + 1}") from error
    finally:
        loader.dispose()


def _problem(error: yaml.YAMLError) -> str:
    """What PyYAML, or the loader below, says of a text."""
    problem = getattr(error, "problem", None) or "not readable"
    if isinstance(error, _RefusedError):
        return problem
    context = f"{error.context}, " if isinstance(error, ComposerError) and error.context else ""
    return f"not YAML: {shorten(context + problem, 160)}"


class _RefusedError(ConstructorError):
    """YAML that is not accepted here."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the limits and the scalars that are described above."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._open: set[str] = set()  # anchors of the values that are being read

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.events.AliasEvent) and event.anchor in self._open:
            raise _RefusedError(f"*{event.anchor} stands inside itself", event.start_mark)
        if self._depth >= MAX_DEPTH:
            raise _RefusedError(f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        anchor = None if isinstance(event, yaml.events.AliasEvent) else event.anchor
        self._depth += 1
        self._open |= {anchor} if anchor else set()
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1
            self._open -= {anchor} if anchor else set()

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise _RefusedError("a key must be a word", key.start_mark)
            if key.value in lines:
                problem = f"the key {shorten(key.value)} stands twice, first in line {lines[key.value]}"
                raise _RefusedError(problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return node

    def get_single_node(self) -> Node | None:
        node = super().get_single_node()
        if node is not None and _size(node, {}) > MAX_VALUES:
            problem = f"holds more than {MAX_VALUES:,} values, counting every use of an alias"
            raise _RefusedError(problem, node.start_mark)
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except _UNREADABLE as error:
            kind = node.tag.removeprefix(_CORE)
            problem = f"{shorten(str(node.value))!r} is not a valid {kind}"
            raise _RefusedError(problem, node.start_mark) from error

    def construct_undefined(self, node: Node) -> Any:
        raise _RefusedError(f"the tag {shorten(node.tag.replace(_CORE, '!!'))} is not accepted", node.start_mark)


def _size(node: Node, sizes: dict[int, int]) -> int:
    """How many values a node holds, an alias counted as often as it is used."""
    if id(node) not in sizes:
        children: list[Node] = []
        if isinstance(node, MappingNode):
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, SequenceNode):
            children = node.value
        sizes[id(node)] = 1 + sum(_size(child, sizes) for child in children)
    return sizes[id(node)]


def _core_only() -> None:
    """Leaves the types of JSON; only `true` and `false` are booleans, and dates are text."""
    constructors = {
        tag: make for tag, make in _Loader.yaml_constructors.items() if (tag or "").removeprefix(_CORE) in _TYPES
    }
    _Loader.yaml_constructors = {**constructors, None: _Loader.construct_undefined}
    dropped = {f"{_CORE}bool", f"{_CORE}timestamp", f"{_CORE}value"}
    _Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in dropped]
        for first, resolvers in _Loader.yaml_implicit_resolvers.items()
    }
    _Loader.add_implicit_resolver(f"{_CORE}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


_core_only()
