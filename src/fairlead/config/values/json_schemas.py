"""JSON schemas that people write: checked when they are read, closed to the network, their patterns bounded in time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from fairlead.config.values.patterns import compile_pattern
from fairlead.escape import shorten

PATTERN_SECONDS = 1.0  # a pattern that takes longer on a text raises TimeoutError

_SAMPLES: tuple[Any, ...] = (None, 0, "", [], {})


def schema_validator(schema: Any) -> Validator:
    """A validator of a schema's own draft (2020-12 if it names none), which loads nothing from elsewhere.

    Raises:
        ValueError: if it is no schema, a pattern in it is refused, or a `$ref` leads out of it or nowhere.
    """
    try:
        draft = validator_for(schema, default=jsonschema.Draft202012Validator)
        draft.check_schema(schema)
        uri = str(draft.META_SCHEMA.get("$schema", ""))
        root = specification_with(uri, default=DRAFT202012).create_resource(schema)
        _check_parts(root, Registry().resolver_with_root(root))
        closed = extend(draft, _KEYWORDS)  # type: ignore[no-untyped-call]
        validator: Validator = closed(schema, registry=Registry())
        for sample in _SAMPLES:
            validator.is_valid(sample)
    except jsonschema.SchemaError as error:
        at = "".join(f" at {'.'.join(map(str, error.absolute_path))}" if error.absolute_path else "")
        raise ValueError(f"is not a JSON schema{at}: {shorten(error.message, 160)}") from error
    except Unresolvable as error:
        raise ValueError(
            f"$ref {shorten(error.ref)} is not in the schema, and nothing is loaded from elsewhere"
        ) from error
    except RecursionError as error:
        raise ValueError("refers to itself without end, or is nested too deeply") from error
    except TypeError as error:
        raise ValueError("is not a JSON schema") from error
    return validator


def _check_parts(part: Resource[Any], resolver: Any) -> None:
    """Looks up every reference, and compiles every pattern, of a schema and of the schemas inside it."""
    contents = part.contents
    if isinstance(contents, dict):
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            if keyword in contents:
                resolver.lookup(contents[keyword])
        patterns = [*contents.get("patternProperties", ()), *([contents["pattern"]] if "pattern" in contents else [])]
        for pattern in patterns:
            compile_pattern(pattern)
        if contents.get("patternProperties") and "unevaluatedProperties" in contents:
            raise ValueError("patternProperties beside unevaluatedProperties is not supported")
    for inner in part.subresources():
        _check_parts(inner, resolver.in_subresource(inner))


def _matches(pattern: str, text: str) -> bool:
    return compile_pattern(pattern).search(text, timeout=PATTERN_SECONDS) is not None


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield jsonschema.ValidationError("does not match the pattern")


def _pattern_properties(
    validator: Any, properties: dict[str, Any], instance: Any, _schema: Any
) -> Iterator[jsonschema.ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, inner in properties.items():
        for name, value in instance.items():
            if _matches(pattern, name):
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, additional: Any, instance: Any, schema: Any
) -> Iterator[jsonschema.ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        if name not in known and not any(_matches(pattern, name) for pattern in patterns):
            yield from validator.descend(value, additional, path=name)


_KEYWORDS = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
}
