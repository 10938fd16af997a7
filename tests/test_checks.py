"""Checks: one value in [0, 1] per answer, None where the gold lacks the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from fairlead.checks import PatternTimeoutError, build_check, check_faults, demand_checks
from fairlead.config.checks import CheckSettings
from fairlead.config.project import parse_config
from fairlead.errors import ConfigError, DataError
from tests.support.projects import tiny_config

GOLD = {"severity": "high", "keywords": ["disk", "full"]}


def value(settings: dict[str, Any], answer: str, gold: dict[str, Any] = GOLD, folder: Path = Path()) -> float | None:
    parsed: CheckSettings = TypeAdapter(CheckSettings).validate_python({"name": "c", **settings})
    return build_check(parsed, folder)(answer, gold)


def schema(**keywords: Any) -> dict[str, Any]:
    return {"kind": "json_schema", "json_schema": keywords}


TREE = schema(
    **{"$defs": {"t": {"properties": {"t": {"$ref": "#/$defs/t"}, "n": {"type": "integer"}}}}, "$ref": "#/$defs/t"}
)
CLOSED = schema(properties={"a": {}}, patternProperties={"^x": {"type": "integer"}}, additionalProperties=False)


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
        (schema(pattern="^a+$"), '"aaa"', 1),
        (schema(pattern="^a+$"), '"aab"', 0),
        (schema(pattern="^a+$"), "5", 1),
        (CLOSED, '{"a": "", "x1": 5}', 1),
        (CLOSED, '{"x1": "5"}', 0),
        (CLOSED, '{"b": 5}', 0),
        (schema(additionalProperties={"type": "integer"}), '{"b": 5}', 1),
        (schema(additionalProperties={"type": "integer"}), '{"b": ""}', 0),
        (TREE, '{"t": {"t": {"n": 5}}}', 1),
        (TREE, '{"t": {"t": {"n": ""}}}', 0),
        (schema(type="array"), "[" * 100_000, 0),
        ({"kind": "regex", "pattern": r"\d{4}-\d{2}(-[a-f0-9]{32}){8}"}, "2026-11" + ("-" + "0" * 32) * 8, 1),
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
    ("keywords", "answer"),
    [
        ({"pattern": "(a|aa)+$"}, json.dumps("a" * 60 + "b")),
        ({"patternProperties": {"(a|aa)+$": {}}}, json.dumps({"a" * 60 + "b": 1})),
        (
            {"patternProperties": {"x": {}, "(a|aa)+$": {}}, "additionalProperties": False},
            json.dumps({"a" * 60 + "b": 1}),
        ),
    ],
)
def test_a_pattern_of_a_schema_that_would_hang_is_an_error_and_no_value(keywords: dict[str, Any], answer: str) -> None:
    with pytest.raises(PatternTimeoutError, match="a pattern of the schema does not come to an end"):
        value(schema(**keywords), answer)


def test_a_schema_in_a_file_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"$ref": "http://127.0.0.1:9/s.json"}')
    with pytest.raises(ConfigError, match=r"^s\.json: \$ref .* nothing is loaded from elsewhere"):
        value({"kind": "json_schema", "json_schema": "s.json"}, "1", folder=tmp_path)


def test_a_schema_that_never_ends_on_an_answer_is_an_error_and_no_value() -> None:
    endless = schema(properties={"a": {"$ref": "#/properties/a"}})
    assert value(endless, '{"b": 1}') == 1
    with pytest.raises(DataError, match="the schema does not come to an end"):
        value(endless, '{"a": 1}')


@pytest.mark.parametrize("gold", [5, True, {"a": 1}, 0.5])
def test_contains_needs_a_string_or_a_list_of_strings(gold: Any) -> None:
    with pytest.raises(DataError, match=r"check c: gold's keywords is .*, a string or a list of strings is needed"):
        value({"kind": "contains", "field": "keywords"}, "x", {"keywords": gold})


@pytest.mark.parametrize("gold", [None, [], ""])
def test_contains_is_undefined_where_gold_is_empty(gold: Any) -> None:
    assert value({"kind": "contains", "field": "keywords"}, "x", {"keywords": gold}) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "regex", "pattern": "("}, "invalid regular expression"),
        ({"kind": "field", "field": "a", "pattern": "a"}, "needs a group"),
        ({"kind": "length"}, "bounds nothing"),
        ({"kind": "length", "min_words": 3, "max_words": 2}, "min_words 3 is above max_words 2"),
        ({"kind": "function", "function": "f"}, r"must be file\.py:function"),
        ({"kind": "function", "function": "f.py:"}, r"must be file\.py:function"),
        ({"kind": "function", "function": "../f.py:f"}, "must lie in the project folder"),
        ({"kind": "function", "function": "a/../../f.py:f"}, "must lie in the project folder"),
        ({"kind": "function", "function": "/tmp/f.py:f"}, "must lie in the project folder"),
        ({"kind": "function", "function": "~/f.py:f"}, "must lie in the project folder"),
        ({"kind": "regex", "pattern": "a{300000000}"}, "repeats too much"),
        ({"kind": "regex", "pattern": "(?:[a-z]{1000}){1000}"}, "repeats too much"),
        ({"kind": "regex", "pattern": "((a{30}b){30}c){30}"}, "repeats too much"),
        ({"kind": "regex", "pattern": "(" * 4000}, "invalid regular expression: nested too deeply"),
        ({"kind": "regex", "pattern": "a" * 5001}, "has 5,001 characters"),
        ({"kind": "field", "field": "a", "pattern": "(a{300000000})"}, "repeats too much"),
        (schema(type="colour"), "is not a JSON schema at type"),
        (schema(required=5), "is not a JSON schema at required"),
        (schema(**{"$ref": "https://example.com/schema.json"}), "nothing is loaded from elsewhere"),
        (schema(**{"$ref": "file:///etc/passwd"}), "nothing is loaded from elsewhere"),
        (schema(properties={"a": {"$ref": "#/$defs/b"}}), "nothing is loaded from elsewhere"),
        (schema(**{"$ref": "#"}), "refers to itself without end"),
        (schema(**{"$schema": ["x"]}), "is not a JSON schema"),
        (schema(pattern="a{300000000}"), "repeats too much"),
        (schema(patternProperties={"(": {}}), "regular expression|is not a JSON schema"),
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
    with pytest.raises(DataError, match="a number from 0 to 1 is needed"):
        value({"kind": "function", "function": "mine.py:f"}, "x", folder=tmp_path)


ENDS = [
    "import sys; sys.exit(0)",
    "raise SystemExit",
    "raise GeneratorExit",
    "class E(BaseException): pass\n    raise E",
]


@pytest.mark.parametrize("body", ENDS)
def test_a_users_file_cannot_end_the_run(tmp_path: Path, body: str) -> None:
    (tmp_path / "mine.py").write_text(f"def f(answer, gold):\n    {body}\n")
    with pytest.raises(DataError, match=r"mine\.py:f: raised "):
        value({"kind": "function", "function": "mine.py:f"}, "x", folder=tmp_path)
    (tmp_path / "mine.py").write_text(body.replace("    raise", "raise") + "\ndef f(answer, gold):\n    return 1\n")
    with pytest.raises(ConfigError, match=r"mine\.py:f: \w+"):
        value({"kind": "function", "function": "mine.py:f"}, "x", folder=tmp_path)


def test_a_stop_by_the_person_stays_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(answer, gold):\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        value({"kind": "function", "function": "mine.py:f"}, "x", folder=tmp_path)


def test_a_file_without_the_function_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("g = 5\n")
    for name in ("f", "g"):
        with pytest.raises(ConfigError, match=f"defines no function {name}"):
            value({"kind": "function", "function": f"mine.py:{name}"}, "x", folder=tmp_path)


def test_a_missing_function_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        value({"kind": "function", "function": "absent.py:f"}, "x", folder=tmp_path)


def test_a_function_that_cannot_take_an_answer_and_a_gold_is_refused_before_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def f(answer):\n    return 1\n\ndef g(answer, gold, strict=False):\n    return 1\n"
    )
    with pytest.raises(ConfigError, match=r"mine\.py:f: cannot be called with two arguments.*def f\(answer, gold\)"):
        value({"kind": "function", "function": "mine.py:f"}, "x", folder=tmp_path)
    assert value({"kind": "function", "function": "mine.py:g"}, "x", folder=tmp_path) == 1


def test_every_check_of_a_config_is_built_wherever_it_stands_and_all_faults_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(answer, gold):\n    return 1\n")
    (tmp_path / "text.json").write_text("{")
    (tmp_path / "task.jsonl").write_text("")
    absent = {"kind": "function", "function": "absent.py:f"}
    config = parse_config(
        tiny_config()
        | {
            "judge": {
                "kind": "panel",
                "judges": [
                    {"kind": "rubric", "checks": [{"name": "a", "kind": "function", "function": "mine.py:f"}]},
                    {"kind": "rubric", "checks": [{"name": "b", "kind": "function", "function": "mine.py:other"}]},
                ],
            },
            "eval": {"metrics": [{"name": "c", **absent}, {"name": "d", "kind": "regex", "pattern": "x"}]},
            "probe": {
                "task": "task.jsonl",
                "task_checks": [
                    {"name": "e", **absent},
                    {"name": "f", "kind": "json_schema", "json_schema": "text.json"},
                ],
            },
        }
    )
    faults = check_faults(config, tmp_path)
    assert sorted(faults) == [
        "eval.metrics.0", "judge.judges.1.checks.0", "probe.task_checks.0", "probe.task_checks.1"
    ]  # fmt: skip
    with pytest.raises(ConfigError) as refused:
        demand_checks(config, tmp_path)
    message = str(refused.value)
    assert "judge.judges.1.checks.0: " in message
    assert "defines no function other" in message
    assert "eval.metrics.0, probe.task_checks.0: " in message
    assert message.count("absent.py: no such file") == 1
    assert "text.json" in message
    assert "\n" not in message
