"""Puts questions to a chat: the ledger first, then the purse, then the wire with patience."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.errors import BudgetError, JudgeError
from fairlead.judges import reply_parser
from fairlead.judges.prompt_injection import clean
from fairlead.llm.client import ChangedError, Chat, Purse, Question, RawReply, RejectedError, TransientError
from fairlead.llm.rate_limit import Concurrency
from fairlead.llm.reply_store import Committer, Ledger, Reply, logprobs_json, now, request_json

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 30.0  # seconds
_LONGEST_ASKED = 600.0  # a server that asks for more than this is asked again by a later run
_UNPROVEN_TRIES = 3  # before the first reply of all: what does not work at once rarely will
_UNPROVEN_FAILURES, _PROVEN_FAILURES = 3, 50  # questions in a row without a reply that mean nobody is there


class NoReplyError(Exception):
    """A question got no reply, and the reason."""


@dataclass(frozen=True)
class Patience:
    """How long a session tries."""

    timeout_s: float
    max_retries: int


class Session:
    """One run of questions to one chat, on one event loop.

    The same question asked twice at once is sent once. A reply is in the ledger before it is returned.

    Args:
        chat: who answers.
        ledger: where replies are kept; None keeps none.
        purse: what may be spent.
        gate: how many at once.
    """

    def __init__(self, chat: Chat, ledger: Ledger | None, purse: Purse, patience: Patience, gate: Concurrency) -> None:
        self.chat, self.gate = chat, gate
        self._ledger, self._purse, self._patience = ledger, purse, patience
        self._committer = None if ledger is None else Committer(ledger)
        self._asked: dict[str, asyncio.Task[Reply]] = {}
        self._sending: set[asyncio.Task[Reply]] = set()
        self._cost_came_in = asyncio.Event()
        self._proven = False
        self._failures_in_a_row = 0
        self._fatal: JudgeError | None = None

    async def ask(self, question: Question) -> Reply:
        """The reply to a question, from the ledger or from the chat.

        Raises:
            NoReplyError: if this question gets none.
            BudgetError: if the purse is empty.
            JudgeError: if no question will get one.
        """
        while True:
            if (stored := find_stored(self.chat, self._ledger, question)) is not None:
                return stored
            body = self.chat.body(question)
            key, request = key_of(self.chat, question, body)
            task = self._asked.get(key)
            if task is None:
                task = asyncio.create_task(self._with_patience(question, key, request, body), name=key)
                self._asked[key] = task
                task.add_done_callback(self._answered)
            try:
                return await asyncio.shield(task)
            except ChangedError:
                continue

    def _answered(self, task: asyncio.Task[Reply]) -> None:
        self._asked.pop(task.get_name(), None)
        _retrieved(task)

    def _sent(self, task: asyncio.Task[Reply]) -> None:
        self._sending.discard(task)
        _retrieved(task)

    async def _with_patience(self, question: Question, key: str, request: str, body: Mapping[str, Any]) -> Reply:
        tries = 0
        while True:
            await self.gate.enter(question.order)
            try:
                return await self._once(question, key, request, body)
            except TransientError as error:
                tries += 1
                most = self._patience.max_retries
                if not self._proven and not error.crowded:
                    most = min(most, _UNPROVEN_TRIES)
                if tries > most:
                    self._failed(error.reason)
                    raise NoReplyError(f"{error.reason}; {tries} tries") from None
                wait = self._wait(tries, error)
                if not self._proven:  # nobody else need find out what these few are finding out
                    self.gate.hold(wait)
                await asyncio.sleep(wait)
            except RejectedError as error:
                self._failed(str(error))
                raise NoReplyError(str(error)) from None
            except JudgeError as error:
                self._fatal = self._fatal or error
                raise

    def _wait(self, tries: int, error: TransientError) -> float:
        """Exponential, with jitter so that those who failed together do not come back together."""
        if error.retry_after is None:
            return random.uniform(0.5, 1) * min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (tries - 1))
        if error.retry_after > _LONGEST_ASKED:
            fatal = JudgeError(
                f"asks to wait {error.retry_after:.0f} s",
                where=self._where,
                remedy="run the same command again then; replies that were paid for are kept",
            )
            self._fatal = self._fatal or fatal
            raise fatal
        return error.retry_after + random.uniform(0, 0.25) * max(error.retry_after, _FIRST_WAIT)

    @property
    def _where(self) -> str:
        return f"{self.chat.endpoint} (model {self.chat.model})"

    async def _once(self, question: Question, key: str, request: str, body: Mapping[str, Any]) -> Reply:
        """One try, in a place of the gate that was entered before and is left here."""
        outcome: dict[str, Any] = {}
        entered = asyncio.get_running_loop().time()
        try:
            if self._fatal is not None:
                raise self._fatal
            reserved = await self._reserve(request, body)
            # On its own task: a reply under way is worth its money even when nobody waits for it any more.
            task = asyncio.create_task(self._send_and_store(question, key, request, body, reserved))
            self._sending.add(task)
            task.add_done_callback(self._sent)
            reply = await asyncio.shield(task)
            outcome = {"refused": False, "slow": reply.latency > self._patience.timeout_s / 2}
            self._proven, self._failures_in_a_row = True, 0
            return reply
        except TransientError as error:
            outcome = {"refused": error.crowded, "wait": error.retry_after}
            raise
        finally:
            self.gate.leave(**outcome, took=asyncio.get_running_loop().time() - entered)

    async def _send_and_store(
        self, question: Question, key: str, request: str, body: Mapping[str, Any], reserved: float
    ) -> Reply:
        started = now()
        try:
            raw = await self._send(body)
            reply = self._reply(question, key, request, raw, started)
            self._purse.spent += reply.cost or 0.0
        finally:
            self._purse.release(reserved)
            self._cost_came_in.set()
        if self._committer is None or self._ledger is None:
            return reply
        await self._committer.store(reply)
        return self._ledger.find(key) or reply  # another process may have stored its own first: that one is the answer

    async def _send(self, body: Mapping[str, Any]) -> RawReply:
        try:
            async with asyncio.timeout(self._patience.timeout_s):
                return await self.chat.send(body)
        except TimeoutError:
            raise TransientError(f"no reply within {self._patience.timeout_s:g} s", crowded=True) from None

    def _reply(self, question: Question, key: str, request: str, raw: RawReply, started: float) -> Reply:
        return Reply(
            key=key,
            question=question.id,
            endpoint=self.chat.endpoint,
            model=self.chat.model,
            template=question.template,
            request=request,
            text=clean(raw.text),
            finish=raw.finish,
            refusal=None if raw.refusal is None else clean(raw.refusal),
            logprobs=None if raw.logprobs is None else logprobs_json(raw.logprobs),
            input_tokens=raw.input_tokens,
            output_tokens=raw.output_tokens,
            cost=self._purse.cost(raw.input_tokens, raw.output_tokens),
            latency=now() - started,
            at=started,
            verdict=reply_parser.as_word(question.form, raw.text, cut=raw.finish in self.chat.cut),
        )

    async def _reserve(self, request: str, body: Mapping[str, Any]) -> float:
        """Takes what a call may cost at most out of the purse, waiting for calls under way where it is too little."""
        purse = self._purse
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 0
        most = purse.most(len(request.encode("utf-8", "surrogatepass")), int(limit))
        while purse.max_cost is not None and purse.spent + purse.reserved + most > purse.max_cost:
            if not purse.in_flight:
                raise self._stop(
                    f"max_cost {purse.max_cost:g} does not cover another call ({purse.spent:.4g} is spent)"
                )
            self._cost_came_in.clear()
            await self._cost_came_in.wait()
        if purse.max_calls is not None and purse.calls >= purse.max_calls:
            raise self._stop(f"max_calls {purse.max_calls} are made")
        purse.reserve(most)
        return most

    def _stop(self, what: str) -> BudgetError:
        return BudgetError(
            what, where=self._where, remedy="raise it, or run the same command again to go on with as much once more"
        )

    def _failed(self, reason: str) -> None:
        """Counts a question without a reply, and gives the endpoint up where they are too many."""
        self._failures_in_a_row += 1
        if self._failures_in_a_row < (_PROVEN_FAILURES if self._proven else _UNPROVEN_FAILURES):
            return
        what = "stopped answering" if self._proven else "does not answer"
        self._fatal = JudgeError(
            f"{what}: {reason}",
            where=self._where,
            remedy="check base_url, the server and the network, then run the same command again; nothing is lost",
        )
        raise self._fatal

    async def close(self, drain_s: float) -> None:
        """Lets calls under way come in for so long, because they are paid for, then gives up the rest."""
        asked = list(self._asked.values())
        for task in asked:
            task.cancel()
        if self._sending:
            await asyncio.wait(set(self._sending), timeout=drain_s)
        late = list(self._sending)
        for task in late:
            task.cancel()
        await asyncio.gather(*asked, *late, return_exceptions=True)
        await self.chat.close()


def key_of(chat: Chat, question: Question, body: Mapping[str, Any]) -> tuple[str, str]:
    """The ledger's key of a question that is sent with this body, and the whole request that it is the hash of."""
    request = request_json(chat.endpoint, question.template, body)
    return hashlib.sha256(request.encode("utf-8", "surrogatepass")).hexdigest(), request


def find_stored(chat: Chat, ledger: Ledger | None, question: Question) -> Reply | None:
    """The stored reply to a question, also where its endpoint answered it without the optional parts of the body."""
    if ledger is None:
        return None
    body = chat.body(question)
    stored = ledger.find(key_of(chat, question, body)[0])
    if stored is None and chat.optional & body.keys():
        plain = {name: value for name, value in body.items() if name not in chat.optional}
        stored = ledger.find(key_of(chat, question, plain)[0])
    return stored


def _retrieved(task: asyncio.Task[Reply]) -> None:
    """Looks at a task's error, which asyncio would else report when nobody waits for the task any more."""
    if not task.cancelled():
        task.exception()
