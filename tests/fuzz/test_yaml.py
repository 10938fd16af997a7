"""Mutated configs: each is read, or refused in one short line that names keys as they are written."""

from __future__ import annotations

import copy
import re
import unicodedata
from importlib import resources
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from fairlead.config.loading.explain import MOST_PROBLEMS
from fairlead.config.loading.yaml_file import parse_yaml
from fairlead.config.project import parse_config
from fairlead.config.template import template
from fairlead.errors import ConfigError
from tests.support.fuzz import bounded

DEMO = resources.files("fairlead.demo").joinpath("fairlead.yaml").read_text("utf-8")
TEXTS = (DEMO, template())
CONFIGS = [parse_yaml(text, where="f") for text in TEXTS]
# Anything that once broke a reader of YAML or of its values.
SNIPPETS = (
    "2026-02-30", "0b_", '!!int ""', "!!float x", "!!python/object:os.system x", "!!set {a}", "!!binary x", "{}", "[]",
    "[[[", "}", "'", '"', "&a", "*a", "&a [*a]", "<<: *a", "? [a]", "- ", ": ", "#", "---", "\t", "\x07", "\u2028", "~",
    "yes", "true", "null", "9" * 400, "1e400", ".nan", "-.inf", "-1", "0", "1.5", "\x1b[2J", "\u202e", "🙂", "x" * 5000,
    "a{300000000}", "(", "../../etc/passwd", "kind: openai", "base_url: http://u:SECRET@h", "\\UFFFFFFFF", "=", ">-",
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 1, 1.5, 2**32, 10**400, -(10**400), float("nan"), float("inf"), "", "x", "y" * 5000,
    "\x1b[2J", "a{300000000}", [], {},
    [None], [[]], [1, 1], ["x", 5], {"kind": "openai"}, {"kind": 5}, {"kind": "x" * 500},
    {"kind": ["x"]}, {1: 2}, {"a": {"b": {"c": 1}}}, {"figure": "x.y"}, b"x",
    {"model": 5},
)  # fmt: skip
OF_PYDANTIC = re.compile(r"function-|tagged-union|list\[|dict\[|literal\[|constrained-|nullable|Extra inputs")


@st.composite
def mutated_texts(draw: st.DrawFn) -> str:
    """A config whose text was cut, doubled, indented or had something put in, up to three times."""
    lines = draw(st.sampled_from(TEXTS)).splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        column = draw(st.integers(0, len(lines[at])))
        match draw(st.integers(0, 5)):
            case 0:
                lines[at] = lines[at][:column] + draw(st.sampled_from(SNIPPETS)) + lines[at][column:]
            case 1:
                lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
            case 2:
                lines[at] = lines[at][:column]
            case 3:
                lines[at] = " " * draw(st.integers(0, 5)) + lines[at].lstrip()
            case 4:
                key = lines[at].partition(":")[0]
                lines[at] = f"{key}: {draw(st.sampled_from(SNIPPETS))}"
            case _:
                lines[at] = lines[at][:column] + draw(st.text(max_size=5)) + lines[at][column:]
    return "\n".join(lines)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in items for path in ((*at, key), *paths(item, (*at, key)))]


@st.composite
def mutated_values(draw: st.DrawFn) -> dict[str, Any]:
    """A config in which up to three values were replaced, removed, or given a name that is not known."""
    data: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(CONFIGS)))
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(paths(data)))
        parent: Any = data
        for part in above:
            parent = parent[part]
        action = draw(st.integers(0, 3))
        if action == 0 and isinstance(parent, dict):
            parent[draw(st.sampled_from(("openai", "rubric", "x", "kind", "list[str]", "y" * 5000, 5)))] = parent.pop(
                key
            )
        elif action == 1:
            del parent[key]
        else:
            parent[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        if not paths(data):
            break
    return data


def refusal(data: Any) -> str | None:
    """The line that refuses a config; None where it is accepted."""
    try:
        parse_config(data, where="f")
    except ConfigError as error:
        return str(error)
    return None


def is_active(character: str) -> bool:
    """Whether a terminal does something at it: control characters, line breaks, turns of direction.

    `str.isprintable` also refuses characters that Python's Unicode does not know yet, which a terminal shows as a box.
    """
    turns = unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return turns or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def check_line(line: str) -> None:
    assert "\n" not in line
    assert [character for character in line if is_active(character)] == []
    assert "SECRET" not in line
    assert len(line) < 500 * (MOST_PROBLEMS + 1), line
    assert not OF_PYDANTIC.search(line.replace("list[str]", "")), line


@bounded()
@given(mutated_texts())
def test_a_mutated_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        data = parse_yaml(text, where="f")
    except ConfigError as error:
        check_line(str(error))
        data = None
    if isinstance(data, dict) and (line := refusal(data)) is not None:
        check_line(line)


@bounded()
@given(mutated_values())
def test_a_mutated_value_is_accepted_or_refused_by_the_keys_that_are_written(data: dict[str, Any]) -> None:
    line = refusal(data)
    if line is None:
        return
    check_line(line)
    for problem in line.removeprefix("f: ").split("; "):
        path = re.match(r"((?:\w+\.)+\w+): ", problem)
        value: Any = data
        for part in path[1].split(".")[:-1] if path else ():
            assert part in value if isinstance(value, dict) else int(part) < len(value), problem
            value = value[part] if isinstance(value, dict) else value[int(part)]


@bounded(20)
@given(mutated_values())
def test_what_is_accepted_is_accepted_again_as_it_was_resolved(data: dict[str, Any]) -> None:
    try:
        config = parse_config(data)
    except ConfigError:
        return
    again = parse_config(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))))
    assert again == config
