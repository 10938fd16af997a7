"""A causal LM on this machine, asked like an endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from fairlead.config.model import ModelSection
from fairlead.errors import ModelError
from fairlead.llm.client import ChatReply, ChatRequest, RejectedError
from fairlead.models.generation import CompletionRequest, LocalGenerator
from fairlead.models.loading import load_base, load_tokenizer
from fairlead.records import Message, Prompt, Sampling, message_dicts

_GATHER_S = 0.005


class LocalClient:
    """Requests that are made at the same time are answered in one batch, greedily.

    The weights are loaded when the first request is sent.

    Args:
        name: model folder or hub id.
        folder: the project folder.
        identity: name and content of the model; part of every request's key.
        too_long_remedy: what helps where the texts exceed the model's context.
    """

    kind = "local"
    truncated = frozenset({"length"})
    declined: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()

    def __init__(
        self, name: str, folder: Path, identity: str, *, max_tokens: int, batch_size: int, too_long_remedy: str
    ) -> None:
        self.model, self.endpoint = identity, "local"
        self._name, self._folder = name, folder
        self._max_tokens, self._batch_size, self._too_long_remedy = max_tokens, batch_size, too_long_remedy
        self._waiting: list[tuple[CompletionRequest, asyncio.Future[ChatReply]]] = []
        self._worker: asyncio.Task[None] | None = None

    @cached_property
    def _generator(self) -> LocalGenerator:
        section = ModelSection(name=self._name)
        base, tokenizer = load_base(section, self._folder), load_tokenizer(section, self._folder)
        return LocalGenerator.of(base, tokenizer, name=self.model, batch_size=self._batch_size)

    def body(self, request: ChatRequest) -> dict[str, Any]:
        messages = message_dicts(request.messages)
        return {"model": self.model, "messages": messages, "max_tokens": self._max_tokens}

    async def send(self, body: Mapping[str, Any]) -> ChatReply:
        _ = self._generator  # a model that cannot be loaded is no fault of this request
        loop = asyncio.get_running_loop()
        done: asyncio.Future[ChatReply] = loop.create_future()
        self._waiting.append((self._request(body), done))
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        return await done

    def _request(self, body: Mapping[str, Any]) -> CompletionRequest:
        """The request with the system message in the first user message: many chat templates refuse the role."""
        system = [m["content"] for m in body["messages"] if m["role"] == "system"]
        messages = [Message(m["role"], m["content"]) for m in body["messages"] if m["role"] != "system"]
        if system:
            messages[0] = Message(messages[0].role, "\n\n".join([*system, messages[0].content]))
        sampling = Sampling(temperature=0.0, max_new_tokens=body["max_tokens"])
        return CompletionRequest(Prompt(tuple(messages)), sampling, model=self.model)

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHER_S)
            batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
            try:
                replies = await asyncio.to_thread(self._answer, [request for request, _ in batch])
            except ModelError:
                replies = [await asyncio.to_thread(self._answer_one, request) for request, _ in batch]
            for (_, done), reply in zip(batch, replies, strict=True):
                if not done.done():
                    done.set_result(reply) if isinstance(reply, ChatReply) else done.set_exception(reply)

    def _answer(self, requests: list[CompletionRequest]) -> list[ChatReply | RejectedError]:
        completions = self._generator.generate(requests, seed=0)
        return [ChatReply(c.text, c.finish, output_tokens=c.tokens) for c in completions]

    def _answer_one(self, request: CompletionRequest) -> ChatReply | RejectedError:
        """One reply, or why this request alone has none: it may be too long for the model."""
        try:
            [reply] = self._answer([request])
        except ModelError as error:
            return RejectedError(error.what, remedy=self._too_long_remedy)
        return reply

    async def close(self) -> None:
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)
