"""Chat over Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NoReturn

import anthropic
import httpx2

from fairlead.config.judges import AnthropicSettings
from fairlead.llm.client import ChangedError, Form, Question, RawReply, TransientError
from fairlead.llm.http_errors import Key, cause, integer, lacks_structure, raise_sorted
from fairlead.llm.openai import SCHEMAS

_ANTHROPIC = "https://api.anthropic.com"


def _schema(form: Form) -> dict[str, Any]:
    """The form's schema as this API takes it: without bounds of numbers."""
    schema = SCHEMAS[form]
    if form == "score":
        score = {"type": "integer", "enum": list(range(1, 11))}
        return schema | {"properties": schema["properties"] | {"score": score}}
    return schema


class AnthropicChat:
    """One model of the API. The key is read when the first request is sent."""

    kind = "anthropic"
    cut = frozenset({"max_tokens", "model_context_window_exceeded"})
    declined = frozenset({"refusal"})
    optional = frozenset({"output_config"})

    def __init__(self, settings: AnthropicSettings) -> None:
        self.model = settings.model
        # The client adds /v1 itself; the addresses that people know often end with it.
        self.endpoint = (settings.base_url or _ANTHROPIC).rstrip("/").removesuffix("/v1")
        self._settings = settings
        self._structured = settings.structured == "auto"
        self._key = Key(settings.api_key_env, self.endpoint)

    @cached_property
    def _client(self) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(
            api_key=self._key.value,
            base_url=self.endpoint,
            max_retries=0,  # the session's own retries know the budget and the ledger
            timeout=self._settings.timeout_s,
        )

    def body(self, question: Question) -> dict[str, Any]:
        system = "\n\n".join(turn.content for turn in question.turns if turn.role == "system")
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self._settings.max_tokens,
            "messages": [{"role": t.role, "content": t.content} for t in question.turns if t.role != "system"],
        }
        if system:
            body["system"] = system
        if self._settings.temperature is not None:
            body["temperature"] = self._settings.temperature
        if self._structured:
            body["output_config"] = {"format": {"type": "json_schema", "schema": _schema(question.form)}}
        return body

    async def send(self, body: Mapping[str, Any]) -> RawReply:
        try:
            # The bytes as they came: a proxy in between may not answer what the client's types promise.
            response = await self._client.post("/v1/messages", cast_to=httpx2.Response, body=dict(body))
            status, text = response.status_code, response.text
        except anthropic.APIStatusError as error:
            self._refused(error, body)
        except anthropic.APITimeoutError:
            raise TransientError("the request timed out", crowded=True) from None
        except anthropic.APIConnectionError as error:
            raise TransientError(f"cannot be reached ({cause(error)})") from None
        return self._read(text, status)

    def _refused(self, error: anthropic.APIStatusError, body: Mapping[str, Any]) -> NoReturn:
        if self.optional & body.keys() and lacks_structure(error.status_code, error.body):
            self._structured = False
            raise ChangedError from None
        raise_sorted(error, body, key=self._key, endpoint=self.endpoint, model=self.model)

    def _read(self, text: str, status: int) -> RawReply:
        try:
            data = json.loads(text)
            finish, usage = str(data["stop_reason"]), data.get("usage") or {}
            words = "".join(block["text"] for block in data["content"] if block["type"] == "text")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            shown = self._key.hide(text[:200])
            raise TransientError(f"answers what is no message (status {status}): {shown!r}") from None
        return RawReply(
            text=words,
            finish=finish,
            input_tokens=integer(usage.get("input_tokens")),
            output_tokens=integer(usage.get("output_tokens")),
        )

    async def close(self) -> None:
        if "_client" in self.__dict__:
            await self._client.close()
