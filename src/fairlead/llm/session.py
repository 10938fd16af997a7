"""Sends requests: the stored reply if there is one, then the budget, then HTTP with retries."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from fairlead.errors import BudgetError, JudgeError
from fairlead.llm.budget import Budget
from fairlead.llm.client import (
    ChatClient,
    ChatReply,
    ChatRequest,
    RejectedError,
    TransientError,
    UnsupportedParameterError,
)
from fairlead.llm.rate_limit import Concurrency
from fairlead.llm.retry import FailureCount, RetryPolicy, asks_too_long, wait_before
from fairlead.llm.store.reply_store import ReplyStore, StoredReply
from fairlead.llm.store.request_key import PreparedRequest, find_stored, prepare
from fairlead.llm.store.writer import StoreWriter
from fairlead.text.encoding import storable

_CHECK_THE_SERVER = "check base_url, the server and the network"
_TOO_SLOW = "raise timeout_s, or lower concurrency or max_tokens"
_FIRST_POLL_S, _LONGEST_POLL_S = 0.05, 2.0  # while another process is sending the same request


class NoReplyError(Exception):
    """A request got no reply, and the reason."""


class _ClaimedElsewhereError(Exception):
    """Another session is sending the same request just now."""


class Session:
    """One run of requests to one model, on one event loop.

    The same request made twice at once is sent once, also by several processes that share the store. A reply is stored,
    as it came, before it is returned.

    Args:
        client: sends the requests.
        store: where replies are kept; None keeps none.
        budget: what may be spent.
        gate: how many requests are under way at once.
    """

    def __init__(
        self,
        client: ChatClient,
        store: ReplyStore | None,
        budget: Budget,
        retry_policy: RetryPolicy,
        gate: Concurrency,
    ) -> None:
        self.client, self.gate = client, gate
        self._store, self._budget, self._retry_policy = store, budget, retry_policy
        self._writer = None if store is None else StoreWriter(store)
        self._pending: dict[str, asyncio.Task[StoredReply]] = {}
        self._sending: set[asyncio.Task[StoredReply]] = set()
        self._notes: set[asyncio.Task[None]] = set()
        self._call_ended = asyncio.Event()
        self._failures = FailureCount()
        self._fatal: JudgeError | None = None

    async def ask(self, request: ChatRequest) -> StoredReply:
        """The reply to a request, from the store or from the model.

        Raises:
            NoReplyError: if this request gets none.
            BudgetError: if the budget is spent.
            JudgeError: if no request will get one.
        """
        while True:
            if (stored := find_stored(self.client, self._store, request)) is not None:
                return stored
            prepared = prepare(self.client, request)
            task = self._pending.get(prepared.key)
            if task is None:
                task = asyncio.create_task(self._from_anyone(prepared), name=prepared.key)
                self._pending[prepared.key] = task
                task.add_done_callback(self._settled)
            try:
                return await asyncio.shield(task)
            except UnsupportedParameterError:
                continue

    def note_reading(self, reply: StoredReply, reading: str | None) -> None:
        """Stores what was read from a reply, for people who look at the ledger; nobody waits for it."""
        if self._writer is not None and reply.verdict != reading:
            self._later(self._writer.note_reading(reply.key, reading))

    def _later(self, write: Coroutine[Any, Any, None]) -> None:
        """Starts a write that nobody waits for, before the session ends."""
        task = asyncio.create_task(write)
        self._notes.add(task)
        task.add_done_callback(self._noted)

    def _noted(self, task: asyncio.Task[None]) -> None:
        self._notes.discard(task)
        _retrieve(task)

    def _settled(self, task: asyncio.Task[StoredReply]) -> None:
        self._pending.pop(task.get_name(), None)
        _retrieve(task)

    def _sent(self, task: asyncio.Task[StoredReply]) -> None:
        self._sending.discard(task)
        _retrieve(task)

    async def _from_anyone(self, prepared: PreparedRequest) -> StoredReply:
        """The reply from the model, or from another process that is asking for the same one."""
        poll = _FIRST_POLL_S
        while True:
            try:
                return await self._with_retries(prepared)
            except _ClaimedElsewhereError:
                await asyncio.sleep(poll)
                poll = min(_LONGEST_POLL_S, 1.5 * poll)
            except Exception:  # not where it is cancelled: the call may be under way, and `close` lets it come in
                if self._writer is not None:
                    self._later(self._writer.release(prepared.key))
                raise

    async def _with_retries(self, prepared: PreparedRequest) -> StoredReply:
        tries = 0
        while True:
            await self.gate.enter(prepared.request.priority)
            try:
                return await self._once(prepared)
            except TransientError as error:
                tries += 1
                if tries > self._retry_policy.retries(error, proven=self._failures.proven):
                    what = "stopped answering" if self._failures.proven else "does not answer"
                    self._failed(what, error.reason, _TOO_SLOW if error.timed_out else _CHECK_THE_SERVER)
                    raise NoReplyError(f"{error.reason}; {tries} tries") from None
                await self._wait(tries, error)
            except RejectedError as error:
                what = "rejects all requests now" if self._failures.proven else "rejects every request"
                self._failed(what, error.reason, error.remedy)
                raise NoReplyError(error.reason) from None
            except JudgeError as error:
                self._fatal = self._fatal or error
                raise

    async def _wait(self, tries: int, error: TransientError) -> None:
        if asks_too_long(error):
            self._fatal = self._fatal or JudgeError(
                f"asks to wait {error.retry_after:.0f} s",
                where=self._where,
                remedy="run the same command again then; replies that were paid for are kept",
            )
            raise self._fatal
        seconds = wait_before(tries, error)
        if not self._failures.proven:  # the others need not find out what these few are finding out
            self.gate.hold(seconds)
        await asyncio.sleep(seconds)

    @property
    def _where(self) -> str:
        return f"{self.client.endpoint} (model {self.client.model})"

    async def _once(self, prepared: PreparedRequest) -> StoredReply:
        """One try, in a place of the gate that was entered before and is left here."""
        outcome: dict[str, Any] = {}
        entered = asyncio.get_running_loop().time()
        try:
            if self._fatal is not None:
                raise self._fatal
            if (stored := await self._claim(prepared.key)) is not None:
                return stored
            reserved = await self._reserve(prepared)
            # On its own task: a reply under way is worth its money even when nobody waits for it any more.
            task = asyncio.create_task(self._send_and_store(prepared, reserved))
            self._sending.add(task)
            task.add_done_callback(self._sent)
            reply = await asyncio.shield(task)
            outcome = {"refused": False, "slow": reply.latency > self._retry_policy.timeout_s / 2}
            self._failures.succeeded()
            return reply
        except TransientError as error:
            outcome = {"refused": error.crowded, "wait": error.retry_after, "timed_out": error.timed_out}
            raise
        finally:
            self.gate.leave(**outcome, took=asyncio.get_running_loop().time() - entered)

    async def _claim(self, key: str) -> StoredReply | None:
        """Claims a request; the reply where another session has stored one meanwhile.

        Raises:
            _ClaimedElsewhereError: if another session is sending the request just now.
        """
        if self._writer is None or self._store is None:
            return None
        if await self._writer.claim(key):
            return None
        if (stored := self._store.find(key)) is None:
            raise _ClaimedElsewhereError
        return stored

    async def _send_and_store(self, prepared: PreparedRequest, reserved: float) -> StoredReply:
        started = time.time()
        try:
            raw = await self._send(prepared.body)
            reply = self._stored(prepared, raw, started)
            self._budget.spent += reply.cost or 0.0
        finally:
            self._budget.release(reserved)
            self._call_ended.set()
        if self._writer is None or self._store is None:
            return reply
        if await self._writer.store(reply):
            return reply
        # Another process has stored its own reply first, because the claim had expired: that one is the answer.
        return self._store.find(prepared.key) or reply

    async def _send(self, body: Mapping[str, Any]) -> ChatReply:
        seconds = self._retry_policy.timeout_s
        try:
            async with asyncio.timeout(seconds):
                return await self.client.send(body)
        except TimeoutError:
            raise TransientError(f"no reply within {seconds:g} s", timed_out=True) from None

    def _stored(self, prepared: PreparedRequest, raw: ChatReply, started: float) -> StoredReply:
        request = prepared.request
        return StoredReply(
            key=prepared.key,
            subject=request.subject,
            endpoint=self.client.endpoint,
            model=self.client.model,
            template=request.template,
            request=prepared.json,
            text=storable(raw.text),
            finish=storable(raw.finish),
            refusal=None if raw.refusal is None else storable(raw.refusal),
            logprobs=None if raw.logprobs is None else storable(json.dumps(raw.logprobs, ensure_ascii=False)),
            input_tokens=raw.input_tokens,
            output_tokens=raw.output_tokens,
            cost=self._budget.cost(raw.input_tokens, raw.output_tokens),
            latency=time.time() - started,
            at=started,
            purpose=request.purpose,
            variant=request.variant,
            attempt=request.attempt,
        )

    async def _reserve(self, prepared: PreparedRequest) -> float:
        """Reserves what the call may cost at most, waiting for calls under way where the budget does not cover it."""
        budget = self._budget
        limit = prepared.body.get("max_completion_tokens") or prepared.body.get("max_tokens") or 0
        upper_bound = budget.upper_bound(len(prepared.json.encode("utf-8", "surrogatepass")), int(limit))
        while not budget.covers(upper_bound):
            if not budget.in_flight:
                raise self._stop(
                    f"max_cost {budget.max_cost:g} does not cover another call ({budget.spent:.4g} is spent)"
                )
            self._call_ended.clear()
            await self._call_ended.wait()
        if budget.calls_are_used_up:
            raise self._stop(f"max_calls {budget.max_calls} is reached")
        budget.reserve(upper_bound)
        return upper_bound

    def _stop(self, what: str) -> BudgetError:
        return BudgetError(
            what, where=self._where, remedy="raise it, or run the same command again to go on with as much once more"
        )

    def _failed(self, what: str, reason: str, remedy: str) -> None:
        """Counts a request without a reply, and gives the endpoint up where they are too many."""
        if not self._failures.failed():
            return
        self._fatal = JudgeError(
            f"{what}: {reason}",
            where=self._where,
            remedy=f"{remedy}, then run the same command again; nothing is lost",
        )
        raise self._fatal

    async def close(self, drain_s: float) -> None:
        """Lets calls under way come in for so long, because they are paid for, then gives up the rest."""
        pending = list(self._pending.values())
        for task in pending:
            task.cancel()
        if self._sending:
            await asyncio.wait(set(self._sending), timeout=drain_s)
        late = list(self._sending)
        for task in late:
            task.cancel()
        await asyncio.gather(*pending, *late, return_exceptions=True)
        await asyncio.gather(*self._notes, return_exceptions=True)
        if self._writer is not None:
            await self._writer.close()
        await self.client.close()


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Looks at a task's error, which asyncio would else report when nobody waits for the task any more."""
    if not task.cancelled():
        task.exception()
