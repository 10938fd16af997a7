"""Chat over the OpenAI wire form: hosted, vLLM, llama.cpp, Ollama and whatever else speaks it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn

import httpx2
import openai

from fairlead.config.judges import OpenAISettings
from fairlead.llm.client import ChangedError, Form, Question, RawReply, TransientError
from fairlead.llm.http_errors import Key, cause, declined, integer, lacks_structure, raise_sorted, said

_OPENAI = "https://api.openai.com/v1"
_ALTERNATIVES = 20  # the most that endpoints give


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


# The reason comes first: the verdict is then written in its light.
SCHEMAS: dict[Form, dict[str, Any]] = {
    "pairwise": _object(reason={"type": "string"}, verdict={"type": "string", "enum": ["A", "B", "tie"]}),
    "score": _object(reason={"type": "string"}, score={"type": "integer", "minimum": 1, "maximum": 10}),
}


class OpenAIChat:
    """One endpoint and model. The key is read when the first request is sent."""

    kind = "openai"
    cut = frozenset({"length"})
    declined = frozenset({"content_filter"})
    optional = frozenset({"response_format"})

    def __init__(self, settings: OpenAISettings) -> None:
        self.model = settings.model
        self.endpoint = (settings.base_url or _OPENAI).rstrip("/")
        self._settings = settings
        self._structured = settings.structured == "auto"
        self._key = Key(settings.api_key_env, self.endpoint)

    @cached_property
    def _client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            api_key=self._key.value or "none",
            base_url=self.endpoint,
            max_retries=0,  # the session's own retries know the budget and the ledger
            timeout=self._settings.timeout_s,
        )

    def body(self, question: Question) -> dict[str, Any]:
        settings = self._settings
        # OpenAI's newer models take only the newer name, other servers often only the older.
        limit = "max_completion_tokens" if settings.base_url is None else "max_tokens"
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in question.turns],
            limit: settings.max_tokens,
        }
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if settings.expected_score and question.form == "score":
            body |= {"logprobs": True, "top_logprobs": _ALTERNATIVES}
        if self._structured:
            schema = {"name": question.form, "strict": True, "schema": SCHEMAS[question.form]}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    async def send(self, body: Mapping[str, Any]) -> RawReply:
        try:
            # The bytes as they came: this module reads them itself, because servers differ.
            response = await self._client.post("/chat/completions", cast_to=httpx2.Response, body=dict(body))
            status, text = response.status_code, response.text
        except openai.APIStatusError as error:
            if declined(error.status_code, error.body):
                return RawReply("", "content_filter", refusal=self._key.hide(said(error.body)) or "moderated")
            self._refused(error, body)
        except openai.APITimeoutError:
            raise TransientError("the request timed out", crowded=True) from None
        except openai.APIConnectionError as error:
            raise TransientError(f"cannot be reached ({cause(error)})") from None
        return self._read(text, status)

    def _refused(self, error: openai.APIStatusError, body: Mapping[str, Any]) -> NoReturn:
        if self.optional & body.keys() and lacks_structure(error.status_code, error.body):
            self._structured = False
            raise ChangedError from None
        raise_sorted(error, body, key=self._key, endpoint=self.endpoint, model=self.model)

    def _read(self, text: str, status: int) -> RawReply:
        """The reply, if the text is a complete one of the wire form; anything else is a fault of the server's."""
        try:
            data = json.loads(text)
            choice = data["choices"][0]
            message, finish = choice["message"], str(choice.get("finish_reason") or "")
            content, refusal = message.get("content"), message.get("refusal")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            shown = self._key.hide(text[:200])
            raise TransientError(f"answers what is no chat completion (status {status}): {shown!r}") from None
        if content is not None and not isinstance(content, str):
            raise TransientError("answers a chat completion without text")
        usage = data.get("usage") or {}
        return RawReply(
            text=content or "",
            finish=finish,
            refusal=refusal if isinstance(refusal, str) and refusal else None,
            logprobs=_logprobs(choice),
            input_tokens=integer(usage.get("prompt_tokens")) if isinstance(usage, dict) else None,
            output_tokens=integer(usage.get("completion_tokens")) if isinstance(usage, dict) else None,
        )

    async def close(self) -> None:
        if "_client" in self.__dict__:
            await self._client.close()


def _logprobs(choice: Mapping[str, Any]) -> Sequence[tuple[str, Sequence[tuple[str, float]]]] | None:
    try:
        return [
            (str(token["token"]), [(str(other["token"]), float(other["logprob"])) for other in token["top_logprobs"]])
            for token in choice["logprobs"]["content"]
        ]
    except (LookupError, TypeError, ValueError):
        return None
