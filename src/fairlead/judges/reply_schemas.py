"""JSON schemas for the replies of judges, for endpoints with structured output."""

from __future__ import annotations

from typing import Any

from fairlead.llm.client import ReplySchema


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


# The reason comes first: the verdict is then written in its light.
PAIRWISE = ReplySchema(
    "pairwise", _object(reason={"type": "string"}, verdict={"type": "string", "enum": ["A", "B", "tie"]})
)
SCORE = ReplySchema("score", _object(reason={"type": "string"}, score={"type": "integer", "minimum": 1, "maximum": 10}))
