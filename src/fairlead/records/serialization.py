"""Records as JSON values and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from fairlead.records.completions import Completion, Sampling
from fairlead.records.judgements import Answer, Comparison, Flag, Score, ScoreState, Verdict, VerdictState
from fairlead.records.preferences import Draw, Imported, Preference, Provenance, Sampled
from fairlead.records.prompts import Example, Message, Prompt

Record = Prompt | Example | Completion | Comparison | Verdict | Answer | Score | Preference


def to_json(record: Record) -> dict[str, Any]:
    """A record as JSON values; `prompt` appears as `prompt_from_json` reads it."""
    data = asdict(record)
    if isinstance(record, Prompt):
        return _prompt_to_json(record)
    if isinstance(record, Example | Comparison | Answer | Preference):
        data["prompt"] = _prompt_to_json(record.prompt)
    if isinstance(record, Preference) and record.provenance is None:
        data["provenance"] = {}  # null would mean that the row says nothing of it
    return data


def message_dicts(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Turns as JSON values, as chat templates and chat endpoints take them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def _prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": prompt.id,
        "messages": message_dicts(prompt.messages),
    }
    if prompt.gold:
        data["gold"] = dict(prompt.gold)
    if prompt.cluster:
        data["cluster"] = prompt.cluster
    return data


def prompt_from_json(data: Mapping[str, Any]) -> Prompt:
    """The inverse of `to_json` for a prompt."""
    messages = tuple(Message(m["role"], m["content"]) for m in data["messages"])
    return Prompt(messages, data.get("gold", {}), data.get("cluster", ""))


def example_from_json(data: Mapping[str, Any]) -> Example:
    return Example(prompt_from_json(data["prompt"]), data["answer"])


def completion_from_json(data: Mapping[str, Any]) -> Completion:
    return Completion(**{**data, "sampling": Sampling(**data["sampling"])})


def verdict_from_json(data: Mapping[str, Any]) -> Verdict:
    return Verdict(
        **{
            **data,
            "state": VerdictState(data["state"]),
            "calls": tuple(data["calls"]),
            "orders": tuple(map(VerdictState, data.get("orders", ()))),
            "flags": tuple(map(Flag, data.get("flags", ()))),  # rows of before there were flags have none
        }
    )


def score_from_json(data: Mapping[str, Any]) -> Score:
    flags = tuple(map(Flag, data.get("flags", ())))
    return Score(**{**data, "state": ScoreState(data["state"]), "calls": tuple(data["calls"]), "flags": flags})


def preference_from_json(data: Mapping[str, Any]) -> Preference:
    return Preference(
        prompt_from_json(data["prompt"]),
        data["chosen"],
        data["rejected"],
        data["margin"],
        _provenance_from_json(data["provenance"]),
    )


def _provenance_from_json(data: Mapping[str, Any]) -> Provenance | None:
    if not data:
        return None
    if data["kind"] == "imported":
        return Imported(**data)
    draws = {side: _draw_from_json(data[side]) for side in ("chosen", "rejected")}
    flags = tuple(Flag(flag) for flag in data["flags"])
    return Sampled(**{**data, **draws, "calls": tuple(data["calls"]), "flags": flags})


def _draw_from_json(data: Mapping[str, Any]) -> Draw:
    return Draw(**{**data, "sampling": Sampling(**data["sampling"])})
