"""Which client speaks to an endpoint."""

from __future__ import annotations

from fairlead.llm.client import ChatClient
from fairlead.llm.endpoint import Endpoint


def open_client(endpoint: Endpoint) -> ChatClient:
    """A client for the endpoint. The providers' own clients take a second to import, so that happens here."""
    if endpoint.kind == "anthropic":
        from fairlead.llm.anthropic import AnthropicClient

        return AnthropicClient(endpoint)
    from fairlead.llm.openai import OpenAIClient

    return OpenAIClient(endpoint)
