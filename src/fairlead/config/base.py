"""What every section of the YAML is made of, and the marks that say what a field means to the pipeline.

A mark stands in a field's `Annotated` type. Marks of paths (`FilePath`, `ModelPath` …) let the pipeline list the files
that a setting names, so that it can hash them. Marks of identity (`NotInKey` …) name the fields that cannot change a
result, such as a budget or an address: a change of theirs makes no stage run again.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python


def _no_boolean(value: object) -> object:
    """Refuses booleans, which Python would accept as 1 or 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _distinct(values: list[Any]) -> list[Any]:
    twice = next((value for number, value in enumerate(values) if value in values[:number]), None)
    if twice is not None:
        raise ValueError(f"has {twice} twice")
    return values


Distinct = AfterValidator(_distinct)  # for a list whose repetitions would be work for nothing, or an error
Number = Annotated[float, BeforeValidator(_no_boolean)]
Integer = Annotated[int, BeforeValidator(_no_boolean)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[Integer, Field(ge=1)]
CountOrZero = Annotated[Integer, Field(ge=0)]


@dataclass(frozen=True)
class KeyMark:
    """How much of a field is part of a stage's key: nothing, the names of a mapping, or whether it is set."""

    keeps: Literal["nothing", "names", "presence"]


NotInKey = KeyMark("nothing")
NamesInKey = KeyMark("names")
PresenceInKey = KeyMark("presence")


@dataclass(frozen=True)
class PathMark:
    """What a string of the config names.

    A file or a function's file must exist; a model or a data set that is no path on this machine is a hub id. Of a
    folder of weights no subfolders are read, such as the checkpoints of its training.
    """

    names: Literal["file", "function", "model", "weights", "dataset"]


@dataclass(frozen=True)
class SecrecyMark:
    """The value is never quoted in a message: people paste keys there."""


NeverQuoted = SecrecyMark()

FilePath = Annotated[str, PathMark("file")]  # a file, or a folder of files
FunctionPath = Annotated[str, PathMark("function")]  # file.py:function
ModelPath = Annotated[str, PathMark("model")]
WeightsPath = Annotated[str, PathMark("weights")]
DatasetPath = Annotated[str, PathMark("dataset")]


@dataclass(frozen=True)
class NamedPath:
    """A path that the config names.

    Attributes:
        key: dotted key of the setting, as in `eval.metrics.0.function`.
        text: the path as it is written, without the function's name.
    """

    key: str
    text: str
    names: Literal["file", "function", "model", "weights", "dataset"]

    @property
    def must_exist(self) -> bool:
        """Whether it can be nothing but a path on this machine."""
        return self.names in ("file", "function")


class Section(BaseModel):
    """A frozen section of the YAML that refuses unknown keys.

    Attributes:
        renamed: former names of keys, each with the present one; they are refused with that name.
        filled_in: keys that may be left out and have no fixed default, each with what stands in its place.
    """

    # Pydantic's own text quotes what was written, which may be a key; `config.explain` quotes the rest.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, serialize_by_alias=True
    )

    renamed: ClassVar[dict[str, str]] = {}
    filled_in: ClassVar[dict[str, str]] = {}

    def named_paths(self, at: str = "") -> list[NamedPath]:
        """Every path that the section, or a part of it, names.

        Args:
            at: dotted path of an attribute, as in `eval.metrics`; the whole section if empty.
        """
        value, annotation, marks = self._resolve(at)
        return list(_paths(value, annotation, marks, at))

    def files(self, at: str = "") -> dict[str, str]:
        """Path text by dotted key, of every path that the section, or a part of it, names."""
        return {path.key: path.text for path in self.named_paths(at)}

    def sections(self, at: str = "") -> Iterator[tuple[str, Section]]:
        """Every section inside, with its dotted path; `at` is that of the section itself."""
        for name in type(self).model_fields:
            yield from _sections(getattr(self, name), f"{at}.{name}" if at else name)

    def key_value(self, at: str) -> Any:
        """What an attribute, named by its dotted path, puts into a stage's key, as a JSON value."""
        value, _, marks = self._resolve(at)
        return _key_value(value, marks)

    def key_values(self) -> dict[str, Any]:
        """What the section puts into a stage's key, as JSON values."""
        values: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if NotInKey not in field.metadata:
                values[field.alias or name] = _key_value(getattr(self, name), field.metadata)
        return values

    @classmethod
    def fields_by_key(cls) -> dict[str, FieldInfo]:
        """The fields by their key in the YAML, which is not the attribute's name where that would be a Python word."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    def _resolve(self, at: str) -> tuple[Any, Any, list[Any]]:
        """The value at a dotted path, its annotation and the marks of its field; properties have no marks."""
        value: Any = self
        annotation: Any = type(self)
        marks: list[Any] = []
        for name in at.split(".") if at else ():
            field = type(value).model_fields.get(name) if isinstance(value, Section) else None
            annotation, marks = (None, []) if field is None else (field.annotation, field.metadata)
            value = getattr(value, name)
        return value, annotation, marks


def _key_value(value: Any, marks: list[Any]) -> Any:
    if NotInKey in marks:
        return None
    if NamesInKey in marks:
        return sorted(value)
    if PresenceInKey in marks:
        return value is not None
    if isinstance(value, Section):
        return value.key_values()
    if isinstance(value, list | tuple):
        return [_key_value(item, []) for item in value]
    if isinstance(value, dict):
        return {str(name): _key_value(item, []) for name, item in value.items()}
    return to_jsonable_python(value)


def _paths(value: Any, annotation: Any, marks: list[Any], key: str) -> Iterator[NamedPath]:
    """The paths in a value, found by the marks of its type."""
    if isinstance(value, Section):
        for name, field in type(value).model_fields.items():
            written = field.alias or name
            below = f"{key}.{written}" if key else written
            yield from _paths(getattr(value, name), field.annotation, field.metadata, below)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _paths(item, item_annotation(annotation), [], f"{key}.{number}")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _paths(item, item_annotation(annotation), [], f"{key}.{name}")
    elif isinstance(value, str):
        mark = next((mark for mark in [*marks, *_marks(annotation)] if isinstance(mark, PathMark)), None)
        if mark is not None:
            text = value.rpartition(":")[0] if mark.names == "function" else value
            yield NamedPath(key, text, mark.names)


def _sections(value: Any, key: str) -> Iterator[tuple[str, Section]]:
    if isinstance(value, Section):
        yield key, value
        yield from value.sections(key)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _sections(item, f"{key}.{number}")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _sections(item, f"{key}.{name}")


def alternatives(annotation: Any) -> Iterator[Any]:
    """The members of a union, or the annotation itself, without `Annotated`."""
    if get_origin(annotation) is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from alternatives(member)
    else:
        yield annotation


def _marks(annotation: Any) -> Iterator[Any]:
    """The marks of an annotation and of the members of its union."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        yield from marks
        yield from _marks(inner)
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _marks(member)


def item_annotation(annotation: Any) -> Any:
    """The type of what a list or a mapping holds; None where it holds anything."""
    for member in alternatives(annotation):
        if get_origin(member) in (list, dict):
            return get_args(member)[-1]
    return None
