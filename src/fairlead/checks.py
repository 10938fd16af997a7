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
from typing import Annotated, Any, Literal, Self

import jsonschema
import regex
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fairlead.errors import ConfigError, DataError
from fairlead.files import read_json

PATTERN_SECONDS = 1.0

Check = Callable[[str, Mapping[str, Any]], float | None]


class PatternTimeoutError(DataError):
    """A regular expression did not come to an end on an answer."""


class _CheckSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="name of the check and of its row in the table")
    weight: Annotated[float, Field(ge=0)] = Field(1.0, description="its weight in the rubric judge's total")


def _compiles(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


class RegexCheck(_CheckSettings):
    """1 where the whole answer (or, with search, a part of it) matches a pattern."""

    kind: Literal["regex"]
    pattern: str = Field(description="regular expression")
    search: bool = Field(False, description="true: the pattern may match anywhere; false: the whole answer")

    _valid = field_validator("pattern")(_compiles)


class JsonSchemaCheck(_CheckSettings):
    """1 where the answer is JSON that a schema accepts."""

    kind: Literal["json_schema"]
    json_schema: dict[str, Any] | str = Field(description="the schema, or a file that holds it")


class FieldCheck(_CheckSettings):
    """1 where a field of the answer equals the same field of gold."""

    kind: Literal["field"]
    field: str = Field(description="name of the field in gold")
    case_sensitive: bool = Field(False, description="true: upper and lower case differ")
    pattern: str | None = Field(
        None, description="expression whose first group is the field; a JSON key or `field: value` if not given"
    )

    @field_validator("pattern")
    @classmethod
    def _valid(cls, pattern: str | None) -> str | None:
        if pattern is not None and regex.compile(_compiles(pattern)).groups < 1:
            raise ValueError("needs a group, as in severity: (\\w+)")
        return pattern


class ContainsCheck(_CheckSettings):
    """The share of gold's strings that stand in the answer, letter case ignored."""

    kind: Literal["contains"]
    field: str = Field(description="field of gold: a string or a list of strings")


class LengthCheck(_CheckSettings):
    """1 where the answer's length lies within bounds, in words, in characters, or both."""

    kind: Literal["length"]
    min_words: Annotated[int, Field(ge=0)] = Field(1, description="fewest words")
    max_words: Annotated[int, Field(ge=1)] | None = Field(None, description="most words")
    min_chars: Annotated[int, Field(ge=0)] = Field(0, description="fewest characters")
    max_chars: Annotated[int, Field(ge=1)] | None = Field(None, description="most characters")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        for unit in ("words", "chars"):
            low, high = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if high is not None and low > high:
                raise ValueError(f"min_{unit} {low} is above max_{unit} {high}")
        if self.max_words is None and self.max_chars is None and self.min_words <= 1 and self.min_chars <= 1:
            raise ValueError("bounds nothing: give max_words, max_chars, min_words or min_chars")
        return self


class FunctionCheck(_CheckSettings):
    """Your own Python: `def f(answer: str, gold: dict) -> float | bool | None`."""

    kind: Literal["function"]
    function: str = Field(description="file and function, as in checks.py:polite; the file lies in the project")

    @field_validator("function")
    @classmethod
    def _valid(cls, function: str) -> str:
        if ".py:" not in function:
            raise ValueError("wants file.py:function")
        return function


CheckSettings = Annotated[
    RegexCheck | JsonSchemaCheck | FieldCheck | ContainsCheck | LengthCheck | FunctionCheck,
    Field(discriminator="kind"),
]


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
