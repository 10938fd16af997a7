"""The same calls for code that runs on an event loop: each works in a thread and is awaited.

The calls without `_async` may be used on a running loop too, as in a notebook; they block it until they are done.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from fairlead.progress import Progress, Task
from fairlead.standalone import alignment, preferences, scoring
from fairlead.standalone.judging import progress_of

P = ParamSpec("P")
R = TypeVar("R")


class _CancelledError(BaseException):
    """Ends the work of a call whose awaiting task was cancelled."""


class _Cancellable:
    """Shows progress elsewhere, and ends the work at its next step once it is cancelled."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self.cancelled = progress, threading.Event()

    def line(self, text: str) -> None:
        self._progress.line(text)

    @contextmanager
    def task(self, stage: str, what: str, total: int) -> Iterator[Task]:
        cancelled = self.cancelled
        with self._progress.task(stage, what, total) as bar:

            class _Step:
                def update(self, done: int, *, total: int | None = None) -> None:
                    if cancelled.is_set():
                        raise _CancelledError
                    bar.update(done, total=total)

            yield _Step()


def _awaited(call: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """The call as a coroutine that works in a thread; where its task is cancelled, the work ends at its next step."""

    @functools.wraps(call)
    async def in_thread(*args: P.args, **kwargs: P.kwargs) -> R:
        bars: Any = kwargs.pop("progress", True)
        progress = _Cancellable(progress_of(bars))
        options: Any = {**kwargs, "progress": progress}
        work = asyncio.ensure_future(asyncio.to_thread(call, *args, **options))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            progress.cancelled.set()
            await asyncio.wait([work])
            work.exception()
            raise

    in_thread.__name__ = f"{call.__name__}_async"
    in_thread.__qualname__ = in_thread.__name__
    return in_thread


evaluate_alignment_async = _awaited(alignment.evaluate_alignment)
score_answers_async = _awaited(scoring.score_answers)
build_preferences_async = _awaited(preferences.build_preferences)
