"""Prompts and examples: what a model is asked, and what SFT should teach it to answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
SOURCE = "source"  # the field of `Prompt.gold` with the text that an answer was to rest on


def content_id(*parts: Any) -> str:
    """16 hex digits of the SHA-256 of `parts` as canonical JSON: the identity of a record by its content."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: a conversation that ends before the assistant's answer.

    Attributes:
        messages: the turns; a plain string prompt is one user turn.
        gold: reference fields that checks compare an answer with; no model ever sees them.
        cluster: the source or topic that the prompt belongs to ("" if unknown). Prompts of one cluster are not
            independent: splits keep them together and error bars count them as one group.
    """

    messages: tuple[Message, ...]
    gold: Mapping[str, Any] = field(default_factory=dict)
    cluster: str = ""

    @property
    def id(self) -> str:
        """Identity of the messages alone, so that gold and cluster can be corrected without changing it."""
        return content_id([[m.role, m.content] for m in self.messages])

    @property
    def text(self) -> str:
        """The turns as one plain text, for people, for judges and for finding near-duplicates."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{m.role}: {m.content}" for m in self.messages)

    @classmethod
    def of(cls, text: str, **kwargs: Any) -> Prompt:
        """A prompt of one user turn."""
        return cls((Message("user", text),), **kwargs)


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with the answer that SFT should teach."""

    prompt: Prompt
    answer: str
