"""`fairlead init --full`: a `fairlead.yaml` of every key, whose comments are the config's own field descriptions."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from fairlead.config.base import Section
from fairlead.config.project import Config, parse_config

_HEAD = """\
# A Fairlead project. `fairlead run` does all of it; `fairlead status` shows how far it is.
# Every key stands here with its default. Paths are relative to this folder.
"""
# What has no default.
_EXAMPLE: dict[str, Any] = {
    "model": {"name": "Qwen/Qwen2.5-0.5B-Instruct"},
    "data": {"sft": "data/sft.jsonl", "prompts": "data/prompts.jsonl", "eval": "data/eval.jsonl"},
    "judge": {"kind": "openai", "model": "gpt-4.1"},
}


def template(name: str = "my-project") -> str:
    """The text of a `fairlead.yaml` with every key of the config, its default and its description."""
    return _HEAD + "\n" + "\n".join(_section(parse_config({"name": name, **_EXAMPLE}), Config, 0)) + "\n"


def _section(value: BaseModel, kind: type[BaseModel], depth: int) -> list[str]:
    pad = "  " * depth
    lines: list[str] = []
    for key, field in kind.model_fields.items():
        item = getattr(value, key)
        if isinstance(item, BaseModel):
            if depth == 0:
                lines.append("")
            doc = (type(item).__doc__ or "").strip().splitlines()
            comment = f"  # {doc[0]}" if doc and not isinstance(item, Section) else ""
            lines += [f"{pad}{key}:{comment}", *_section(item, type(item), depth + 1)]
        else:
            required = "required" if field.default is PydanticUndefined and field.default_factory is None else ""
            note = "; ".join(text for text in (field.description, required) if text)
            lines.append(f"{pad}{key}: {_value(item)}" + (f"  # {note}" if note else ""))
    return lines


def _value(item: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(item, list):
        item = [x.model_dump(exclude_unset=True) if isinstance(x, BaseModel) else x for x in item]
    text = yaml.safe_dump(item, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n...\n").strip()
