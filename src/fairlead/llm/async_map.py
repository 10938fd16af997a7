"""From an iterator of items to an iterator of results, with coroutines in between.

The event loop lives in a thread of its own, so that this works inside another event loop too (a notebook, the web
app) and items are pulled in the caller's thread, when there is room for them.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

LOOK_AHEAD = 2048  # items begun and not yet yielded: enough to work on while one slow reply holds up the order
_DRAIN_S, _INTERRUPTED_DRAIN_S = 10.0, 1.0


class Closable(Protocol):
    """What is opened for one stream."""

    async def close(self, drain_s: float) -> None: ...


S = TypeVar("S", bound=Closable)


def async_map_ordered(
    items: Iterable[T], open_session: Callable[[], S], work: Callable[[S, int, T], Awaitable[R]]
) -> Iterator[R]:
    """Yields work(session, number, item) of every item, in order, many at once.

    The first error of the order is raised, after calls under way have come in.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fairlead-async-map", daemon=True)
    thread.start()
    pending: deque[Future[R]] = deque()
    drain = _DRAIN_S

    async def open_in_loop() -> S:
        return open_session()

    async def work_on(number: int, item: T) -> R:
        return await work(session, number, item)

    def submit(coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, loop)

    try:
        session = submit(open_in_loop()).result()
        try:
            for number, item in enumerate(items):
                pending.append(submit(work_on(number, item)))
                while pending and (pending[0].done() or len(pending) >= LOOK_AHEAD):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except KeyboardInterrupt:
            drain = _INTERRUPTED_DRAIN_S
            raise
        finally:
            for future in pending:
                future.cancel()
            submit(session.close(drain)).result()
    finally:
        submit(_finish()).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _finish() -> None:
    """Waits for cancelled tasks to end, so that the loop can be closed."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
