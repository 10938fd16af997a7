"""The JSON Schema of `report.json`, for programs that read it."""

from __future__ import annotations

from typing import Any

from fairlead.config.reference.json_schema import document_schema
from fairlead.documents.report import SCHEMA, Report


def report_schema() -> dict[str, Any]:
    """The JSON Schema of `report.json` in its present version."""
    schema = document_schema(Report, title="report.json")
    properties = {**schema["properties"], "schema": {"const": SCHEMA, "description": "version of this form"}}
    return {**schema, "properties": properties, "required": ["schema", *schema["required"]]}
