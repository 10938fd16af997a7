"""Checks: one value in [0, 1] per answer, None where the gold lacks the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from fairlead.checks import PatternTimeoutError, build_check
from fairlead.config.checks import CheckSettings
from fairlead.errors import ConfigError, DataError

GOLD = {"severity": "high", "keywords": ["disk", "full"]}


def value(settings: dict[str, Any], answer: str, gold: dict[str, Any] = GOLD, folder: Path = Path()) -> float | None:
    parsed: CheckSettings = TypeAdapter(CheckSettings).validate_python({"name": "c", **settings})
    return build_check(parsed, folder)(answer, gold)


@pytest.mark.parametrize(
    ("settings", "answer", "expected"),
    [
        ({"kind": "regex", "pattern": "a+"}, "aaa", 1),
        ({"kind": "regex", "pattern": "a+"}, "aaab", 0),
        ({"kind": "regex", "pattern": "a+", "search": True}, "baab", 1),
        ({"kind": "field", "field": "severity"}, "severity: HIGH | service: x", 1),
        ({"kind": "field", "field": "severity"}, "severity: low | note: severity: high", 0),
        ({"kind": "field", "field": "severity"}, '{"severity": "high"}', 1),
        ({"kind": "field", "field": "severity"}, "none", 0),
        ({"kind": "field", "field": "severity", "pattern": r"sev=(\w+)"}, "sev=high", 1),
        ({"kind": "contains", "field": "keywords"}, "The DISK is empty", 0.5),
        ({"kind": "field", "field": "severity", "case_sensitive": True}, "severity: HIGH", 0),
        ({"kind": "field", "field": "severity", "case_sensitive": True}, "severity:  high ", 1),
        ({"kind": "field", "field": "severity"}, '{"severity": "hi', 0),
        ({"kind": "length", "max_words": 2}, "one two three", 0),
        ({"kind": "length", "max_words": 3}, "one two three", 1),
        ({"kind": "length", "max_words": 3}, "", 0),
        ({"kind": "length", "min_words": 4}, "one two three", 0),
        ({"kind": "length", "max_chars": 12}, "one two three", 0),
        ({"kind": "length", "max_chars": 13}, "one two three", 1),
        ({"kind": "length", "min_chars": 14}, "one two three", 0),
        ({"kind": "json_schema", "json_schema": {"type": "object", "required": ["a"]}}, '{"a": 1}', 1),
        ({"kind": "json_schema", "json_schema": {"type": "object", "required": ["a"]}}, '{"a": 1', 0),
    ],
)
def test_value_of_a_check(settings: dict[str, Any], answer: str, expected: float) -> None:
    assert value(settings, answer) == expected


def test_a_field_that_gold_lacks_is_undefined_not_zero() -> None:
    assert value({"kind": "field", "field": "owner"}, "owner: me") is None
    assert value({"kind": "contains", "field": "owner"}, "me") is None


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "regex", "pattern": "(a|aa)+$"},
        {"kind": "field", "field": "severity", "pattern": "((a|aa)+)$"},
    ],
)
def test_a_pattern_that_would_hang_is_an_error_and_no_value(settings: dict[str, Any]) -> None:
    with pytest.raises(PatternTimeoutError, match=r"check c: the pattern .* does not come to an end"):
        value(settings, "a" * 60 + "b")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "regex", "pattern": "("}, "is no regular expression"),
        ({"kind": "field", "field": "a", "pattern": "a"}, "needs a group"),
        ({"kind": "length"}, "bounds nothing"),
        ({"kind": "length", "min_words": 3, "max_words": 2}, "min_words 3 is above max_words 2"),
        ({"kind": "function", "function": "f"}, r"wants file\.py:function"),
        ({"kind": "colour"}, "colour"),
        ({"kind": "regex", "pattern": "a", "flags": "i"}, "extra"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        value(settings, "x")


def test_users_own_function(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(answer, gold):\n    return answer == gold['severity']\n")
    settings = {"kind": "function", "function": "mine.py:f"}
    assert value(settings, "high", folder=tmp_path) == 1
    with pytest.raises(DataError, match=r"mine\.py:f: raised KeyError"):
        value(settings, "high", {}, tmp_path)


@pytest.mark.parametrize("body", ["float('nan')", "2", "'yes'"])
def test_a_function_that_gives_no_value_in_range_is_named(tmp_path: Path, body: str) -> None:
    (tmp_path / "mine.py").write_text(f"def f(answer, gold):\n    return {body}\n")
    with pytest.raises(DataError, match="a number from 0 to 1 is wanted"):
        value({"kind": "function", "function": "mine.py:f"}, "x", folder=tmp_path)


def test_a_missing_function_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        value({"kind": "function", "function": "absent.py:f"}, "x", folder=tmp_path)
