"""A client of OpenAI's chat API: hosted, vLLM, llama.cpp, Ollama and whatever else speaks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NoReturn

import httpx2
import openai

from fairlead.llm.client import ChatReply, ChatRequest, TokenLogprobs, TransientError, UnsupportedParameterError
from fairlead.llm.endpoint import Endpoint
from fairlead.llm.http_errors import (
    ApiKey,
    innermost_reason,
    invalid_address,
    is_moderated,
    lacks_structured_output,
    message_of,
    raise_for_error,
    token_count,
)
from fairlead.records import message_dicts

_OPENAI = "https://api.openai.com/v1"
_ALTERNATIVES = 20  # the most that endpoints give
_LOG_OF_ZERO = -9999.0


class OpenAIClient:
    """One endpoint and model. The key is read when the first request is sent."""

    kind = "openai"
    truncated = frozenset({"length"})
    declined = frozenset({"content_filter"})
    optional = frozenset({"response_format"})

    def __init__(self, endpoint: Endpoint) -> None:
        self.model = endpoint.model
        self.endpoint = (endpoint.base_url or _OPENAI).rstrip("/")
        self._settings = endpoint
        self._structured = endpoint.structured
        self._key = ApiKey(endpoint.api_key_env, self.endpoint)

    @cached_property
    def _client(self) -> openai.AsyncOpenAI:
        key = self._key.value or "none"
        try:
            return openai.AsyncOpenAI(
                api_key=key,
                base_url=self.endpoint,
                max_retries=0,  # the session's own retries know the budget and the store
                timeout=self._settings.timeout_s,
            )
        except (httpx2.InvalidURL, ValueError):
            raise invalid_address(self._settings) from None

    def body(self, request: ChatRequest) -> dict[str, Any]:
        settings = self._settings
        # OpenAI's newer models take only the newer name, other servers often only the older.
        limit = "max_completion_tokens" if settings.base_url is None else "max_tokens"
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": message_dicts(request.messages),
            limit: settings.max_tokens,
        }
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if request.logprobs:
            body |= {"logprobs": True, "top_logprobs": _ALTERNATIVES}
        if self._structured and request.schema is not None:
            schema = {"name": request.schema.name, "strict": True, "schema": request.schema.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    async def send(self, body: Mapping[str, Any]) -> ChatReply:
        try:
            # The bytes as they came: this module reads them itself, because servers differ.
            response = await self._client.post("/chat/completions", cast_to=httpx2.Response, body=dict(body))
            status, text = response.status_code, response.text
        except openai.APIStatusError as error:
            if is_moderated(error.status_code, error.body):
                return ChatReply("", "content_filter", refusal=self._key.hide(message_of(error.body)) or "moderated")
            self._raise(error, body)
        except openai.APITimeoutError:
            raise TransientError(f"no reply within {self._settings.timeout_s:g} s", timed_out=True) from None
        except openai.APIConnectionError as error:
            raise TransientError(f"cannot be reached ({self._key.hide(innermost_reason(error))})") from None
        return self._parse(text, status)

    def _raise(self, error: openai.APIStatusError, body: Mapping[str, Any]) -> NoReturn:
        if self.optional & body.keys() and lacks_structured_output(error.status_code, error.body):
            self._structured = False
            raise UnsupportedParameterError from None
        raise_for_error(error, body, key=self._key, endpoint=self._settings, address=self.endpoint)

    def _parse(self, text: str, status: int) -> ChatReply:
        """The reply, if the text is a whole chat completion; anything else is a fault of the server's."""
        try:
            data = json.loads(text)
            choice = data["choices"][0]
            message, finish = choice["message"], str(choice.get("finish_reason") or "")
            content, refusal = message.get("content"), message.get("refusal")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            start = self._key.hide(text[:200])
            raise TransientError(f"the response is not a chat completion (status {status}): {start!r}") from None
        if content is not None and not isinstance(content, str):
            raise TransientError("the chat completion has no text")
        usage = data.get("usage") or {}
        return ChatReply(
            text=content or "",
            finish=finish,
            refusal=refusal if isinstance(refusal, str) and refusal else None,
            logprobs=_logprobs(choice),
            input_tokens=token_count(usage.get("prompt_tokens")) if isinstance(usage, dict) else None,
            output_tokens=token_count(usage.get("completion_tokens")) if isinstance(usage, dict) else None,
        )

    async def close(self) -> None:
        if "_client" in self.__dict__:
            await self._client.close()


def _logprobs(choice: Mapping[str, Any]) -> TokenLogprobs | None:
    """The tokens' log-probabilities; None where there are none, or some that no probability has."""
    try:
        return [
            (str(token["token"]), [(str(other["token"]), _log(other["logprob"])) for other in token["top_logprobs"]])
            for token in choice["logprobs"]["content"]
        ]
    except (LookupError, TypeError, ValueError, OverflowError):
        return None


def _log(value: Any) -> float:
    """A log-probability; servers write that of 0 as -Infinity or -9999, and round a little above 0."""
    number = float(value)
    if isinstance(value, bool) or not number <= 1e-3:
        raise ValueError(f"{value} is not the logarithm of a probability")
    return min(max(number, _LOG_OF_ZERO), 0.0)
