"""`transformers serve` on this machine: an OpenAI-compatible server that others wrote."""

from __future__ import annotations

import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from transformers.utils.import_utils import is_serve_available

from tests.support.processes import Forked

needs_server = pytest.mark.skipif(
    not is_serve_available(), reason="transformers serve is not here: pip install 'transformers[serving]'"
)


@contextmanager
def served_model(model: Path) -> Iterator[str]:
    """URL of a server of this model folder alone; the model's name there is the folder's path."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = Forked(serve, str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu")
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.communicate()


def serve(*arguments: str) -> None:
    """`transformers serve`, as its console script calls it."""
    from transformers.cli.transformers import main

    sys.argv = ["transformers", "serve", *arguments]
    main()


def _wait(url: str, process: Forked) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.returncode is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    process.kill()
    pytest.fail(f"transformers serve did not start: {process.communicate()[1][-2000:]}")
