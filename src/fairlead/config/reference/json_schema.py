"""JSON Schemas of `fairlead.yaml` and of documents, made from their types.

They are of draft 7, which the YAML servers of editors read. A value that a schema accepts may still be refused when the
config is read: combinations of keys, patterns and files are checked there alone.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from fairlead.config.base import Distinct, Section
from fairlead.config.loading.judge_text import read_judge
from fairlead.config.project import CONFIG_NAME, Config

# Pydantic leaves these names where a validator of ours runs before the bound.
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_JUDGE_TEXT = {
    "type": "string",
    "pattern": "^(openai|anthropic|local|rubric):.+",
    "description": "a judge in one line, such as openai:gpt-4.1@http://localhost:8000/v1",
}


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, with what our validators accept besides the type that they return."""

    schema_dialect = "http://json-schema.org/draft-07/schema#"

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        json_schema = super().model_schema(schema)
        section = schema["cls"]
        filled_in = section.filled_in if issubclass(section, Section) else {}
        for key in filled_in:
            json_schema["properties"][key]["type"] = [json_schema["properties"][key]["type"], "null"]
        if "required" in json_schema:
            json_schema["required"] = [key for key in json_schema["required"] if key not in filled_in]
        return json_schema

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        inner = super().function_before_schema(schema)
        return {"anyOf": [_JUDGE_TEXT, inner]} if schema["function"]["function"] is read_judge else inner

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        inner = super().function_after_schema(schema)
        return {**inner, "uniqueItems": True} if schema["function"]["function"] is Distinct.func else inner


def config_schema() -> dict[str, Any]:
    """The JSON Schema of `fairlead.yaml`."""
    schema = document_schema(Config, title=CONFIG_NAME)
    return {**schema, "patternProperties": {"^x-": {"description": "ignored: room for YAML anchors"}}}


def document_schema(document: type[BaseModel], *, title: str) -> dict[str, Any]:
    """The JSON Schema of a type, under the names that its file has."""
    schema = document.model_json_schema(by_alias=True, mode="validation", schema_generator=_Generator)
    return {"$schema": _Generator.schema_dialect, "title": title, **_cleaned(schema)}


def _cleaned(part: Any) -> Any:
    """A schema without the names of our classes, the defaults of whole sections, and pydantic's own keywords."""
    if isinstance(part, list):
        return [_cleaned(item) for item in part]
    if not isinstance(part, dict):
        return part
    cleaned: dict[str, Any] = {}
    for key, value in ((str(key), value) for key, value in part.items()):
        class_name = key == "title" and isinstance(value, str)
        section = key == "default" and isinstance(value, dict)
        tags = key == "discriminator" and "propertyName" in value
        if not (class_name or section or tags):
            cleaned[_BOUNDS.get(key, key)] = _cleaned(value)
    return cleaned
