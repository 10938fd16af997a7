"""Checks that score an answer by rule: the rubric judge adds them up, the comparison reports each.

A check gives a value in [0, 1], or None where it is undefined for this prompt (its gold lacks the field). Model output
is hostile: a pattern that takes longer than `PATTERN_SECONDS` on an answer is stopped and raises, because neither
"matched" nor "not matched" is known.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import regex

from fairlead.config.checks import (
    CheckSettings,
    ContainsCheck,
    FieldCheck,
    FunctionCheck,
    JsonSchemaCheck,
    LengthCheck,
    RegexCheck,
)
from fairlead.errors import ConfigError, DataError
from fairlead.files import read_json

PATTERN_SECONDS = 1.0

Check = Callable[[str, Mapping[str, Any]], float | None]


class PatternTimeoutError(DataError):
    """A regular expression did not come to an end on an answer."""


def build_check(settings: CheckSettings, folder: Path) -> Check:
    """The function of a check.

    Args:
        folder: the project folder, against which files are resolved.

    Raises:
        ConfigError: if a file or function that it names does not exist.
    """
    match settings:
        case RegexCheck():
            return _regex(settings)
        case JsonSchemaCheck():
            return _json_schema(settings, folder)
        case FieldCheck():
            return _field(settings)
        case ContainsCheck():
            return _contains(settings)
        case LengthCheck():
            return _length(settings)
        case FunctionCheck():
            return _function(settings, folder)


def _regex(settings: RegexCheck) -> Check:
    compiled = regex.compile(settings.pattern)
    match = compiled.search if settings.search else compiled.fullmatch

    def check(answer: str, gold: Mapping[str, Any]) -> float:
        del gold
        return float(_bounded(match, answer.strip(), settings.name, settings.pattern) is not None)

    return check


def _bounded(match: Callable[..., Any], text: str, name: str, pattern: str) -> Any:
    """The match, or an error where it would take too long."""
    try:
        return match(text, timeout=PATTERN_SECONDS)
    except TimeoutError as error:
        raise PatternTimeoutError(
            f"the pattern {pattern!r} does not come to an end on the answer {text[:80]!r}",
            where=f"check {name}",
            remedy="write it without a repetition inside a repetition, as in (a+)+",
        ) from error


def _json_schema(settings: JsonSchemaCheck, folder: Path) -> Check:
    schema = settings.json_schema
    loaded = read_json(Path(folder) / schema) if isinstance(schema, str) else schema
    validator = jsonschema.Draft202012Validator(loaded)

    def check(answer: str, gold: Mapping[str, Any]) -> float:
        del gold
        try:
            return float(validator.is_valid(json.loads(answer)))
        except (ValueError, RecursionError):
            return 0.0

    return check


def _field(settings: FieldCheck) -> Check:
    name = settings.field
    pattern = settings.pattern or rf"(?im)\b{regex.escape(name)}\s*:\s*([^|\n]*)"
    compiled = regex.compile(pattern)

    def extract(answer: str) -> str | None:
        if settings.pattern is None and answer.lstrip().startswith("{"):
            try:
                data = json.loads(answer)
            except (ValueError, RecursionError):
                return None
            return str(data[name]) if isinstance(data, dict) and name in data else None
        found = _bounded(compiled.search, answer, settings.name, pattern)
        return str(found.group(1)) if found and found.group(1) is not None else None

    def check(answer: str, gold: Mapping[str, Any]) -> float | None:
        if name not in gold:
            return None
        found = extract(answer)
        return float(found is not None and same(found, str(gold[name])))

    def same(found: str, wanted: str) -> bool:
        if settings.case_sensitive:
            return found.split() == wanted.split()
        return _plain(found) == _plain(wanted)

    return check


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _contains(settings: ContainsCheck) -> Check:
    def check(answer: str, gold: Mapping[str, Any]) -> float | None:
        wanted = gold.get(settings.field)
        wanted = [wanted] if isinstance(wanted, str) else wanted
        if not wanted:
            return None
        text = _plain(answer)
        return sum(_plain(str(item)) in text for item in wanted) / len(wanted)

    return check


def _length(settings: LengthCheck) -> Check:
    def check(answer: str, gold: Mapping[str, Any]) -> float:
        del gold
        words, chars = len(answer.split()), len(answer)
        return float(
            settings.min_words <= words <= (settings.max_words or words)
            and settings.min_chars <= chars <= (settings.max_chars or chars)
        )

    return check


def _function(settings: FunctionCheck, folder: Path) -> Check:
    file, _, name = settings.function.partition(":")
    path = Path(folder) / file
    if not path.is_file():
        raise ConfigError("no such file", where=str(path), remedy=f"correct the check {settings.name} in fairlead.yaml")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name)
    except Exception as error:  # whatever a user's file raises becomes one line that names it
        raise ConfigError(f"{type(error).__name__}: {error}", where=settings.function) from error

    def check(answer: str, gold: Mapping[str, Any]) -> float | None:
        try:
            value = function(answer, dict(gold))
        except Exception as error:
            raise DataError(
                f"raised {type(error).__name__}: {error} on the answer {answer[:80]!r} with the gold {_short(gold)}",
                where=settings.function,
            ) from error
        if value is None:
            return None
        if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
            raise DataError(
                f"gave {value!r} on the answer {answer[:80]!r} with the gold {_short(gold)}",
                where=settings.function,
                remedy="a number from 0 to 1 is wanted, or None where it is undefined",
            )
        return float(value)

    return check


def _short(gold: Mapping[str, Any]) -> str:
    """The gold fields of a row, short enough to find the row by."""
    text = repr(dict(gold))
    return text if len(text) <= 120 else f"{text[:117]}..."
