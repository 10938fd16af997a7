"""One run at a time on a project: a file lock that the operating system releases when its process ends."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from fairlead.errors import ProjectBusyError
from fairlead.files import disk_errors


@contextmanager
def project_lock(folder: Path) -> Iterator[None]:
    """Holds the project's lock.

    Raises:
        ProjectBusyError: naming the process that holds it.
    """
    path = Path(folder) / ".fairlead" / "run.lock"
    holder = path.with_name("run.holder")
    lock = FileLock(path, timeout=0)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise ProjectBusyError(
                f"another run holds this project: {_read(holder)}",
                where=str(folder),
                remedy="wait for it, or stop that process and run again",
            ) from None
    try:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        since = datetime.now(UTC).isoformat(timespec="seconds")
        with disk_errors(holder):
            holder.write_text(
                f"process {os.getpid()} on {socket.gethostname()} since {since} ({command})\n", encoding="utf-8"
            )
        yield
    finally:
        lock.release()


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8", errors="replace").strip() or "unknown process"
    except OSError:
        return "unknown process"
