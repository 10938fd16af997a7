"""What a client needs to know of an endpoint, and which client speaks to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairlead.llm.client import ChatClient


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


def open_client(endpoint: Endpoint) -> ChatClient:
    """A client for the endpoint. The providers' own clients take a second to import, so that happens here."""
    if endpoint.kind == "anthropic":
        from fairlead.llm.anthropic import AnthropicClient

        return AnthropicClient(endpoint)
    from fairlead.llm.openai import OpenAIClient

    return OpenAIClient(endpoint)
