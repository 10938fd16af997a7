"""Checks that score an answer by rule: the rubric judge adds them up, the comparison reports each.

A check gives a value in [0, 1], or None where it is undefined for this prompt (its gold lacks the field). Model output
is not trusted: a pattern that takes longer than `PATTERN_SECONDS` on an answer is stopped and raises an error, because
it is not known whether it matches.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import regex

from fairlead.config.base import Section
from fairlead.config.checks import (
    AnyCheck,
    CheckSettings,
    ContainsCheck,
    FieldCheck,
    FunctionCheck,
    JsonSchemaCheck,
    LengthCheck,
    RegexCheck,
)
from fairlead.config.values.json_schemas import PATTERN_SECONDS, schema_validator
from fairlead.config.values.patterns import compile_pattern
from fairlead.errors import ConfigError, DataError, FairleadError
from fairlead.escape import shorten
from fairlead.files import read_json

_NO_NESTED_REPETITION = "write it without a repetition inside a repetition, as in (a+)+"

Check = Callable[[str, Mapping[str, Any]], float | None]


class PatternTimeoutError(DataError):
    """A regular expression did not finish on an answer in time."""


def build_check(settings: CheckSettings, folder: Path) -> Check:
    """The function of a check.

    Args:
        folder: the project folder, against which files are resolved.

    Raises:
        ConfigError: if a file or function that it names does not exist, or a schema in a file is none.
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


def check_faults(config: Section, folder: Path) -> dict[str, FairleadError]:
    """Why checks of the config cannot be built, by the dotted key of each; empty where all can.

    Files and functions that checks name are read here, before anything is trained, and not when an answer is scored.
    """
    faults: dict[str, FairleadError] = {}
    for key, section in config.sections():
        if isinstance(section, AnyCheck):
            try:
                build_check(section, folder)
            except FairleadError as error:
                faults[key] = error
    return faults


def demand_checks(config: Section, folder: Path) -> None:
    """Raises ConfigError with everything that `check_faults` finds, one fault of several checks once."""
    keys: dict[str, list[str]] = {}
    for key, error in check_faults(config, folder).items():
        keys.setdefault(str(error), []).append(key)
    if keys:
        raise ConfigError("; ".join(f"{', '.join(names)}: {fault}" for fault, names in keys.items()))


def _regex(settings: RegexCheck) -> Check:
    compiled = compile_pattern(settings.pattern)
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
            f"the pattern {shorten(pattern)!r} does not come to an end on the answer {shorten(text)!r}",
            where=f"check {name}",
            remedy=_NO_NESTED_REPETITION,
        ) from error


def _json_schema(settings: JsonSchemaCheck, folder: Path) -> Check:
    schema = settings.json_schema
    loaded = read_json(Path(folder) / schema) if isinstance(schema, str) else schema
    where = schema if isinstance(schema, str) else f"check {settings.name}"
    try:
        validator = schema_validator(loaded)
    except ValueError as error:
        raise ConfigError(str(error), where=where) from error

    def check(answer: str, gold: Mapping[str, Any]) -> float:
        del gold
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            return 0.0
        try:
            return float(validator.is_valid(value))
        except TimeoutError as error:
            raise PatternTimeoutError(
                f"a pattern of the schema does not come to an end on the answer {shorten(answer)!r}",
                where=where,
                remedy=_NO_NESTED_REPETITION,
            ) from error
        except RecursionError as error:
            raise DataError(
                f"the schema does not come to an end on the answer {shorten(answer)!r}",
                where=where,
                remedy="let it refer to itself only inside of properties or items",
            ) from error

    return check


def _field(settings: FieldCheck) -> Check:
    name = settings.field
    pattern = settings.pattern or rf"(?im)\b{regex.escape(name)}\s*:\s*([^|\n]*)"
    compiled = regex.compile(pattern) if settings.pattern is None else compile_pattern(pattern)

    def extract(answer: str) -> str | None:
        if settings.pattern is None and answer.lstrip().startswith("{"):
            try:
                data = json.loads(answer)
            except (ValueError, RecursionError):
                return None
            return str(data[name]) if isinstance(data, dict) and name in data else None
        match = _bounded(compiled.search, answer, settings.name, pattern)
        return str(match.group(1)) if match and match.group(1) is not None else None

    def check(answer: str, gold: Mapping[str, Any]) -> float | None:
        if name not in gold:
            return None
        value = extract(answer)
        return float(value is not None and same(value, str(gold[name])))

    def same(value: str, expected: str) -> bool:
        if settings.case_sensitive:
            return value.split() == expected.split()
        return _plain(value) == _plain(expected)

    return check


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _contains(settings: ContainsCheck) -> Check:
    def check(answer: str, gold: Mapping[str, Any]) -> float | None:
        value = gold.get(settings.field)
        expected = [value] if isinstance(value, str) else value
        if expected is None or expected in ([], [""]):
            return None
        if not isinstance(expected, list):
            raise DataError(
                f"gold's {settings.field} is {shorten(repr(value))}, a string or a list of strings is needed",
                where=f"check {settings.name}",
                remedy="correct the gold of the rows, or use a check of kind field",
            )
        text = _plain(answer)
        return sum(_plain(str(item)) in text for item in expected) / len(expected)

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
    function = _load_function(settings, folder)

    def check(answer: str, gold: Mapping[str, Any]) -> float | None:
        row = f"on the answer {shorten(answer)!r} with the gold {shorten(repr(dict(gold)), 120)}"
        try:
            value = function(answer, dict(gold))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit() in it must not end the run as if all were done
            raise DataError(
                f"raised {type(error).__name__}: {shorten(str(error), 200)} {row}", where=settings.function
            ) from error
        if value is None:
            return None
        if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= 1:
            raise DataError(
                f"returned {shorten(repr(value))} {row}",
                where=settings.function,
                remedy="a number from 0 to 1 is needed, or None where it is undefined",
            )
        return float(value)

    return check


def _load_function(settings: FunctionCheck, folder: Path) -> Callable[[str, dict[str, Any]], Any]:
    """Runs the user's file and takes the function out of it; any error in it becomes one line that names the file."""
    file, _, name = settings.function.rpartition(":")
    path = Path(folder) / file
    if not path.is_file():
        raise ConfigError("no such file", where=str(path), remedy="write it, or correct fairlead.yaml")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ConfigError(f"{type(error).__name__}: {shorten(str(error), 200)}", where=settings.function) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"defines no function {name}", where=str(path))
    try:
        inspect.signature(function).bind("", {})
    except TypeError as error:
        raise ConfigError(
            f"cannot be called with two arguments: {error}",
            where=settings.function,
            remedy=f"write it as def {name}(answer, gold)",
        ) from error
    except ValueError:
        pass  # a function without a signature in Python, such as a builtin
    return cast(Callable[[str, dict[str, Any]], Any], function)
