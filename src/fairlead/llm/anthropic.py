"""A client of Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NoReturn

import anthropic
import httpx2

from fairlead.llm.client import ChatReply, ChatRequest, TransientError, UnsupportedParameterError
from fairlead.llm.endpoint import Endpoint
from fairlead.llm.http_errors import (
    ApiKey,
    innermost_reason,
    invalid_address,
    lacks_structured_output,
    raise_for_error,
    token_count,
)
from fairlead.records import message_dicts

_ANTHROPIC = "https://api.anthropic.com"


def _without_bounds(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as this API takes it: an integer's bounds become the list of its values."""
    properties = {name: _listed(value) for name, value in schema["properties"].items()}
    return {**schema, "properties": properties}


def _listed(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if "minimum" not in value:
        return value
    return {"type": value["type"], "enum": list(range(value["minimum"], value["maximum"] + 1))}


class AnthropicClient:
    """One model of the API. The key is read when the first request is sent."""

    kind = "anthropic"
    truncated = frozenset({"max_tokens", "model_context_window_exceeded"})
    declined = frozenset({"refusal"})
    optional = frozenset({"output_config"})

    def __init__(self, endpoint: Endpoint) -> None:
        self.model = endpoint.model
        # The provider's client adds /v1 itself; the addresses that people know often end with it.
        self.endpoint = (endpoint.base_url or _ANTHROPIC).rstrip("/").removesuffix("/v1")
        self._settings = endpoint
        self._structured = endpoint.structured
        self._key = ApiKey(endpoint.api_key_env, self.endpoint)

    @cached_property
    def _client(self) -> anthropic.AsyncAnthropic:
        key = self._key.value
        try:
            return anthropic.AsyncAnthropic(
                api_key=key,
                base_url=self.endpoint,
                max_retries=0,  # the session's own retries know the budget and the store
                timeout=self._settings.timeout_s,
            )
        except (httpx2.InvalidURL, ValueError):
            raise invalid_address(self._settings) from None

    def body(self, request: ChatRequest) -> dict[str, Any]:
        system = "\n\n".join(message.content for message in request.messages if message.role == "system")
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self._settings.max_tokens,
            "messages": message_dicts(m for m in request.messages if m.role != "system"),
        }
        if system:
            body["system"] = system
        if self._settings.temperature is not None:
            body["temperature"] = self._settings.temperature
        if self._structured and request.schema is not None:
            schema = _without_bounds(request.schema.schema)
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return body

    async def send(self, body: Mapping[str, Any]) -> ChatReply:
        try:
            # The bytes as they came: a proxy in between may not answer what the client's types promise.
            response = await self._client.post("/v1/messages", cast_to=httpx2.Response, body=dict(body))
            status, text = response.status_code, response.text
        except anthropic.APIStatusError as error:
            self._raise(error, body)
        except anthropic.APITimeoutError:
            raise TransientError(f"no reply within {self._settings.timeout_s:g} s", timed_out=True) from None
        except anthropic.APIConnectionError as error:
            raise TransientError(f"cannot be reached ({self._key.hide(innermost_reason(error))})") from None
        return self._parse(text, status)

    def _raise(self, error: anthropic.APIStatusError, body: Mapping[str, Any]) -> NoReturn:
        if self.optional & body.keys() and lacks_structured_output(error.status_code, error.body):
            self._structured = False
            raise UnsupportedParameterError from None
        raise_for_error(error, body, key=self._key, endpoint=self._settings, address=self.endpoint)

    def _parse(self, text: str, status: int) -> ChatReply:
        try:
            data = json.loads(text)
            finish, usage = str(data["stop_reason"]), data.get("usage") or {}
            words = "".join(block["text"] for block in data["content"] if block["type"] == "text")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            start = self._key.hide(text[:200])
            raise TransientError(f"the response is not a message (status {status}): {start!r}") from None
        return ChatReply(
            text=words,
            finish=finish,
            input_tokens=token_count(usage.get("input_tokens")) if isinstance(usage, dict) else None,
            output_tokens=token_count(usage.get("output_tokens")) if isinstance(usage, dict) else None,
        )

    async def close(self) -> None:
        if "_client" in self.__dict__:
            await self._client.close()
