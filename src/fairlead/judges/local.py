"""Judges on this machine: a causal LM that is asked like an endpoint, or a reward model that scores."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from fairlead.config.judges import LocalSettings
from fairlead.config.model import ModelSection
from fairlead.errors import ModelError
from fairlead.judges.base import Judge
from fairlead.judges.prompted import PromptedJudge
from fairlead.judges.reward import RewardJudge
from fairlead.llm.client import Purse, Question, RawReply, RejectedError
from fairlead.llm.reply_store import Ledger
from fairlead.llm.session import Patience
from fairlead.models.generation import Request, TransformersGenerator
from fairlead.models.loading import load_base, load_tokenizer, locate
from fairlead.pipeline.hash_cache import HashCache
from fairlead.records import Message, Prompt, Sampling

_NO_LIMIT_S = 24 * 3600.0  # a model on this machine answers when it is done
_GATHER_S = 0.005


def build_local(settings: LocalSettings, *, ledger: Ledger | None, folder: Path) -> Judge:
    """The judge that a model folder makes: by its architecture.

    Raises:
        ModelError: if it is no model, or a classifier with more than one output.
    """
    where = locate(settings.model, folder)
    try:
        config = AutoConfig.from_pretrained(where)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be loaded: {str(error).splitlines()[0][:200]}", where=where) from error
    identity = _identity(where, config, folder)
    if any(name.endswith("ForSequenceClassification") for name in config.architectures or []):
        if config.num_labels != 1:
            raise ModelError(
                f"has {config.num_labels} outputs, a reward model has one",
                where=where,
                remedy="use a causal LM, or a classifier trained with num_labels=1",
            )
        return RewardJudge(settings, where, identity)
    chat = LocalChat(settings, folder, identity)
    return PromptedJudge(
        settings,
        folder,
        lambda: chat,
        kind="local",
        model=identity,
        ledger=ledger,
        purse=Purse(),
        patience=Patience(_NO_LIMIT_S, 0),
        concurrency=2 * settings.batch_size,
    )


def _identity(where: str, config: Any, folder: Path) -> str:
    """Name and content of a model: weights that change under the same name make another judge."""
    path = Path(where)
    if path.is_dir():
        hashes = HashCache(Path(folder) / ".fairlead" / "hashes.json")
        digest = hashes.hash(path)
        hashes.save()
        return f"{path.name}@{digest[:12]}"
    return f"{where}@{getattr(config, '_commit_hash', None) or 'unknown'}"


class LocalChat:
    """A causal LM; questions that are asked at the same time are answered in one batch, greedily.

    Its weights are loaded when the first question is asked.
    """

    kind = "local"
    cut = frozenset({"length"})
    declined: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()

    def __init__(self, settings: LocalSettings, folder: Path, identity: str) -> None:
        self.model, self.endpoint = identity, "local"
        self._settings, self._folder = settings, folder
        self._waiting: list[tuple[Request, asyncio.Future[RawReply]]] = []
        self._worker: asyncio.Task[None] | None = None

    @cached_property
    def _generator(self) -> TransformersGenerator:
        section = ModelSection(name=self._settings.model)
        base, tokenizer = load_base(section, self._folder), load_tokenizer(section, self._folder)
        return TransformersGenerator(base, tokenizer, name=self.model, batch_size=self._settings.batch_size)

    def body(self, question: Question) -> dict[str, Any]:
        messages = [{"role": turn.role, "content": turn.content} for turn in question.turns]
        return {"model": self.model, "messages": messages, "max_tokens": self._settings.max_tokens}

    async def send(self, body: Mapping[str, Any]) -> RawReply:
        _ = self._generator  # a model that cannot be loaded is no fault of this question
        loop = asyncio.get_running_loop()
        done: asyncio.Future[RawReply] = loop.create_future()
        self._waiting.append((self._request(body), done))
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        return await done

    def _request(self, body: Mapping[str, Any]) -> Request:
        """The request with the system turn in the first user turn: many chat templates refuse the role."""
        system = [m["content"] for m in body["messages"] if m["role"] == "system"]
        turns = [Message(m["role"], m["content"]) for m in body["messages"] if m["role"] != "system"]
        if system:
            turns[0] = Message(turns[0].role, "\n\n".join([*system, turns[0].content]))
        return Request(Prompt(tuple(turns)), Sampling(temperature=0.0, max_new_tokens=body["max_tokens"]))

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(_GATHER_S)
            size = self._settings.batch_size
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            try:
                replies = await asyncio.to_thread(self._answer, [request for request, _ in batch])
            except ModelError:
                replies = [await asyncio.to_thread(self._answer_one, request) for request, _ in batch]
            for (_, done), reply in zip(batch, replies, strict=True):
                if not done.done():
                    done.set_result(reply) if isinstance(reply, RawReply) else done.set_exception(reply)

    def _answer(self, requests: list[Request]) -> list[RawReply | RejectedError]:
        completions = self._generator.generate(requests, seed=0)
        return [RawReply(c.text, c.finish, output_tokens=c.tokens) for c in completions]

    def _answer_one(self, request: Request) -> RawReply | RejectedError:
        """One reply, or why this question alone has none: it may be too long for the model."""
        try:
            [reply] = self._answer([request])
        except ModelError as error:
            return RejectedError(str(error))
        return reply

    async def close(self) -> None:
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)
