"""Settings of the checks that score an answer by rule."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fairlead.config.base import Count, CountOrZero, FilePath, FunctionPath, NotNegative, Section
from fairlead.config.values.patterns import Pattern, compile_pattern


class _CheckSettings(Section):
    name: str = Field(max_length=100, description="name of the check and of its row in the table")
    weight: NotNegative = Field(1.0, description="its weight in the rubric judge's total")


class RegexCheck(_CheckSettings):
    """1 where the whole answer (or, with search, a part of it) matches a pattern."""

    kind: Literal["regex"]
    pattern: Pattern = Field(description="regular expression")
    search: bool = Field(False, description="true: the pattern may match anywhere; false: the whole answer")


class JsonSchemaCheck(_CheckSettings):
    """1 where the answer is JSON that a schema accepts."""

    kind: Literal["json_schema"]
    json_schema: dict[str, Any] | FilePath = Field(description="the schema, or a file that holds it")

    @field_validator("json_schema")
    @classmethod
    def _valid(cls, schema: dict[str, Any] | str) -> dict[str, Any] | str:
        if isinstance(schema, dict):
            from fairlead.config.values.json_schemas import schema_validator  # jsonschema is slow to import

            schema_validator(schema)
        return schema


class FieldCheck(_CheckSettings):
    """1 where a field of the answer equals the same field of gold."""

    kind: Literal["field"]
    field: str = Field(description="name of the field in gold")
    case_sensitive: bool = Field(False, description="true: upper and lower case differ")
    pattern: Pattern | None = Field(
        None, description="expression whose first group is the field; a JSON key or `field: value` if not given"
    )

    @field_validator("pattern")
    @classmethod
    def _valid(cls, pattern: str | None) -> str | None:
        if pattern is not None and compile_pattern(pattern).groups < 1:
            raise ValueError("needs a group, as in severity: (\\w+)")
        return pattern


class ContainsCheck(_CheckSettings):
    """The share of gold's strings that stand in the answer, letter case ignored."""

    kind: Literal["contains"]
    field: str = Field(description="field of gold: a string or a list of strings")


class LengthCheck(_CheckSettings):
    """1 where the answer's length lies within bounds, in words, in characters, or both."""

    kind: Literal["length"]
    min_words: CountOrZero = Field(1, description="fewest words")
    max_words: Count | None = Field(None, description="most words")
    min_chars: CountOrZero = Field(0, description="fewest characters")
    max_chars: Count | None = Field(None, description="most characters")

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
    function: FunctionPath = Field(
        description="file and function, as in checks.py:polite; the file lies in the project"
    )

    @field_validator("function")
    @classmethod
    def _valid(cls, function: str) -> str:
        file, _, name = function.rpartition(":")
        path = PurePath(file)
        if path.suffix != ".py" or not name.isidentifier():
            raise ValueError("must be file.py:function")
        if path.is_absolute() or ".." in path.parts or file.startswith("~"):
            raise ValueError("the file must lie in the project folder: give its path from there")
        return function


AnyCheck = RegexCheck | JsonSchemaCheck | FieldCheck | ContainsCheck | LengthCheck | FunctionCheck
CheckSettings = Annotated[AnyCheck, Field(discriminator="kind")]
