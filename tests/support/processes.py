"""Processes of their own that start at once: forked from a server that has imported what takes seconds to import.

They have their own memory, streams and exit status, and can be killed, as any other process. What is about imports
itself, or about what the environment sets before them, needs a new interpreter instead.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.support.preloaded"])


class Forked:
    """Calls `function` in a process of its own, `stdout` a pipe and `stderr` a file.

    Args:
        env: environment of the process; that of the moment where it is not given.
    """

    def __init__(self, function: Callable[..., object], *arguments: object, env: dict[str, str] | None = None) -> None:
        descriptor, name = tempfile.mkstemp(prefix="stderr-")
        os.close(descriptor)
        self._errors = Path(name)
        reading, writing = _SERVER.Pipe(duplex=False)
        environment = dict(os.environ) if env is None else env
        self._process = _SERVER.Process(
            target=_called, args=(function, arguments, environment, str(Path.cwd()), writing, name), daemon=True
        )
        self._process.start()
        writing.close()
        self.stdout = os.fdopen(os.dup(reading.fileno()), encoding="utf-8")
        reading.close()

    def wait_for_error_text(self, text: str) -> None:
        """Returns once `text` stands in the process's stderr."""
        while text not in self._errors.read_text(encoding="utf-8"):
            assert self._process.is_alive(), self._errors.read_text(encoding="utf-8")
            time.sleep(0.01)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self) -> tuple[str, str]:
        """What the process wrote until its end, to stdout since the last line that was read."""
        with self.stdout:
            out = self.stdout.read()
        self._process.join()
        errors = self._errors.read_text(encoding="utf-8")
        self._errors.unlink()
        return out, errors

    @property
    def returncode(self) -> int | None:
        """As with subprocess: None while it runs, negative where a signal ended it."""
        return self._process.exitcode


def _called(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    environment: dict[str, str],
    place: str,
    out: Connection,
    errors: str,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(place)
    os.dup2(out.fileno(), sys.__stdout__.fileno())  # type: ignore[union-attr]
    out.close()
    with Path(errors).open("wb") as file:
        os.dup2(file.fileno(), sys.__stderr__.fileno())  # type: ignore[union-attr]
    try:
        function(*arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
