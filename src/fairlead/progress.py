"""Progress of long work: bars in a terminal, plain lines elsewhere, nothing in a library call."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBars
from tqdm.auto import tqdm


class Task(Protocol):
    """One bar: `update` says how many of the total are done, and corrects a total that was not known before."""

    def update(self, done: int, *, total: int | None = None) -> None: ...


class Progress(Protocol):
    """Where the work of a run is shown."""

    def line(self, text: str) -> None:
        """Prints a line that stays."""

    def task(self, stage: str, what: str, total: int) -> AbstractContextManager[Task]:
        """Opens a bar for `total` units of work."""


def adding(bar: Task) -> Callable[[int], None]:
    """A function that is told how many more units of work are done."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        bar.update(done)

    return advance


class Silent:
    """Shows nothing; the default of library calls."""

    def line(self, text: str) -> None:
        del text

    @contextmanager
    def task(self, stage: str, what: str, total: int) -> Iterator[Task]:
        del stage, what, total
        yield _SilentTask()


class _SilentTask:
    def update(self, done: int, *, total: int | None = None) -> None:
        del done, total


class Bars:
    """Live bars in a terminal: stage, step, how far, how long it took and how long it will."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    @contextmanager
    def task(self, stage: str, what: str, total: int) -> Iterator[Task]:
        bars = RichBars(
            SpinnerColumn(),
            TextColumn("{task.fields[stage]:<8}", markup=False),
            TextColumn("{task.description:<26}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        with bars:
            task_id = bars.add_task(what, total=total, stage=stage)

            class _Bar:
                def update(self, done: int, *, total: int | None = None) -> None:
                    bars.update(task_id, completed=done, total=total)

            yield _Bar()


class TqdmBars:
    """Bars of tqdm, which are widgets in a notebook and text elsewhere; what library calls show."""

    def line(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    @contextmanager
    def task(self, stage: str, what: str, total: int) -> Iterator[Task]:
        with tqdm(total=total, desc=f"{stage}: {what}") as bar:

            class _Tqdm:
                def update(self, done: int, *, total: int | None = None) -> None:
                    if total is not None:
                        bar.total = total
                    bar.update(done - bar.n)

            yield _Tqdm()


class Lines:
    """Plain lines for logs, at most one per `every` seconds and task."""

    def __init__(self, console: Console, every: float = 10.0) -> None:
        self.console = console
        self.every = every

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, stage: str, what: str, total: int) -> Iterator[Task]:
        started = time.monotonic()
        show, every = self.line, self.every

        class _Line:
            last, total_ = started, total

            def update(self, done: int, *, total: int | None = None) -> None:
                self.total_ = total or self.total_
                now = time.monotonic()
                if now - self.last < every or done <= 0:
                    return
                self.last = now
                took = now - started
                left = took / done * (self.total_ - done)
                show(f"{stage:<8} {what}: {done}/{self.total_}, {took:.0f} s, {left:.0f} s left")

        yield _Line()


def for_console(console: Console) -> Progress:
    """Bars where there is a terminal, lines where there is none."""
    return Bars(console) if console.is_terminal else Lines(console)
