"""Writes to the reply store from coroutines: what arrives together shares one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from fairlead.errors import JudgeError
from fairlead.llm.store.reply_store import ReplyStore, StoredReply, new_owner

_CLAIM_S = 60.0  # a claim of a machine that went down ends after so long


@dataclass(frozen=True, slots=True)
class _Reading:
    key: str
    text: str | None


@dataclass(frozen=True, slots=True)
class _Claim:
    key: str


@dataclass(frozen=True, slots=True)
class _Release:
    key: str


_Item = StoredReply | _Reading | _Claim | _Release


class StoreWriter:
    """Stores replies and claims requests for one session, on one event loop."""

    def __init__(self, store: ReplyStore) -> None:
        self._store, self._owner = store, new_owner()
        self._waiting: list[tuple[_Item, asyncio.Future[bool]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def store(self, reply: StoredReply) -> bool:
        """Commits a reply, which ends the claim on its request; returns when it is on disk.

        Returns:
            Whether it was stored; False where another session has stored one before.
        """
        return await self._write(reply)

    async def note_reading(self, key: str, reading: str | None) -> None:
        """Commits what was read from a reply."""
        await self._write(_Reading(key, reading))

    async def claim(self, key: str) -> bool:
        """Whether this session may send the request; False where another one is sending it or has its reply."""
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
        return await self._write(_Claim(key))

    async def release(self, key: str) -> None:
        """Ends the claim on a request that got no reply."""
        await self._write(_Release(key))

    async def close(self) -> None:
        """Ends all claims of this session. Where the database fails, they end by themselves."""
        if self._renewing is None:
            return
        self._renewing.cancel()
        await asyncio.gather(self._renewing, return_exceptions=True)
        with contextlib.suppress(JudgeError):
            await asyncio.to_thread(self._store.release, self._owner)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_CLAIM_S / 3)
            with contextlib.suppress(JudgeError):  # the next reply that is stored will say what is wrong
                await asyncio.to_thread(self._store.renew, self._owner, _CLAIM_S)

    async def _write(self, item: _Item) -> bool:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((item, done))
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._write_waiting())
        return await done

    async def _write_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            error: Exception | None = None
            refused: set[_Item] = set()
            try:
                refused = await asyncio.to_thread(self._commit, [item for item, _ in batch])
            except Exception as caught:  # every caller of this batch must hear of it
                error = caught
            for item, done in batch:
                if done.done():
                    continue
                if error is not None:
                    done.set_exception(error)
                else:
                    done.set_result(item not in refused)

    def _commit(self, items: list[_Item]) -> set[_Item]:
        """Writes all items; returns the replies that were there already and the claims that others hold."""
        replies = [item for item in items if isinstance(item, StoredReply)]
        present = self._store.store_all(replies) if replies else set()
        if readings := [(item.key, item.text) for item in items if isinstance(item, _Reading)]:
            self._store.note_readings(readings)
        if released := {item.key for item in items if isinstance(item, _Release)}:
            self._store.release(self._owner, released)
        claims = [item for item in items if isinstance(item, _Claim)]
        claimed = self._store.claim({item.key for item in claims}, self._owner, _CLAIM_S) if claims else set()
        return {
            *(reply for reply in replies if reply.key in present),
            *(claim for claim in claims if claim.key not in claimed),
        }
