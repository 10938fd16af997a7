"""What a client needs to know of an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Endpoint:
    """One model behind one address.

    Attributes:
        kind: the API it speaks.
        base_url: None is the provider's own.
        api_key_env: environment variable with the key; None for servers without one.
        temperature: None leaves it to the endpoint.
        structured: whether JSON of a fixed form is asked for.
        section: where its settings stand in the YAML, for messages.
    """

    kind: Literal["openai", "anthropic"]
    model: str
    max_tokens: int
    timeout_s: float
    base_url: str | None = None
    api_key_env: str | None = None
    temperature: float | None = None
    structured: bool = False
    section: str = "the judge section"
