"""The same calls for code that runs on an event loop: each works in a thread and is awaited.

The calls without `_async` may be used on a running loop too, as in a notebook; they block it until they are done.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from fairlead.progress import Progress, Task
from fairlead.standalone import alignment, preferences, scoring
from fairlead.standalone.judging import progress_of
from fairlead.standalone.results import JudgedAnswers, PreferenceSet

P = ParamSpec("P")
R = TypeVar("R")


class _CancelledError(BaseException):
    """Ends the work of a call whose awaiting task was cancelled."""


class _Cancellable:
    """Shows progress elsewhere, and ends the work at its next step once it is cancelled."""

    def __init__(self, shown: Progress) -> None:
        self._shown, self.cancelled = shown, threading.Event()

    def line(self, text: str) -> None:
        self._shown.line(text)

    @contextmanager
    def task(self, stage: str, what: str, total: int) -> Iterator[Task]:
        cancelled = self.cancelled
        with self._shown.task(stage, what, total) as bar:

            class _Step:
                def update(self, done: int, *, total: int | None = None) -> None:
                    if cancelled.is_set():
                        raise _CancelledError
                    bar.update(done, total=total)

            yield _Step()


async def _in_thread(call: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Awaits a call that works in a thread; where the task is cancelled, the work ends at its next step."""
    progress = _Cancellable(progress_of(kwargs.pop("progress", True)))
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, progress=progress, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        progress.cancelled.set()
        await asyncio.wait([work])
        work.exception()
        raise


async def evaluate_alignment_async(*args: Any, **kwargs: Any) -> JudgedAnswers:
    """`evaluate_alignment`, awaited."""
    return await _in_thread(alignment.evaluate_alignment, args, kwargs)


async def score_answers_async(*args: Any, **kwargs: Any) -> JudgedAnswers:
    """`score_answers`, awaited."""
    return await _in_thread(scoring.score_answers, args, kwargs)


async def build_preferences_async(*args: Any, **kwargs: Any) -> PreferenceSet:
    """`build_preferences`, awaited."""
    return await _in_thread(preferences.build_preferences, args, kwargs)
