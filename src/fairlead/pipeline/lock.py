"""One run at a time on a project: an advisory lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from fairlead.errors import ProjectBusyError
from fairlead.files import disk_errors


@contextmanager
def project_lock(folder: Path) -> Iterator[None]:
    """Holds the project's lock; the kernel releases it when the process ends, however it ends.

    Raises:
        ProjectBusyError: naming the process that holds it.
    """
    path = Path(folder) / ".fairlead" / "run.lock"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ProjectBusyError(
                f"another run holds this project: {file.read().strip() or 'unknown process'}",
                where=str(folder),
                remedy="wait for it, or stop that process and run again",
            ) from None
        file.seek(0)
        file.truncate()
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        since = datetime.now(UTC).isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since} ({command})\n")
        file.flush()
        yield
