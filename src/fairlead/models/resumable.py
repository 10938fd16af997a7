"""Generation that a kill can't undo: fixed chunks, each appended to a file when it is whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from fairlead.errors import ArtifactError
from fairlead.files import disk_errors, dump_json
from fairlead.models.generation import Generator, Request
from fairlead.records import Completion, completion_from_json, to_json

RequestT = TypeVar("RequestT", bound=Request)


def generate_resumable(
    generator: Generator[RequestT],
    requests: Sequence[RequestT],
    *,
    log: Path,
    chunk: int,
    seed: int,
    advance: Callable[[int], None],
) -> list[Completion]:
    """Completions of `requests` in order; chunks that `log` already holds are read instead of generated.

    Args:
        log: JSONL file of whole chunks; one line per chunk, so that half a line is half a chunk and is dropped.
        chunk: requests per chunk. The same chunks give the same batches, hence the same text.
        advance: called with the number of completions that became known.

    Raises:
        ArtifactError: if the log holds completions of other requests.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    done = _read(log)
    completions: list[Completion] = []
    for number, start in enumerate(range(0, len(requests), chunk)):
        part = requests[start : start + chunk]
        if number < len(done):
            found = done[number]
            _refuse_others(found, part, log)
            advance(len(found))
        else:
            found = list(generator.generate(part, seed=seed))
            with disk_errors(log), log.open("a", encoding="utf-8") as file:
                file.write(dump_json([to_json(completion) for completion in found]) + "\n")
        completions.extend(found)
    return completions


def _refuse_others(found: Sequence[Completion], requests: Sequence[Request], log: Path) -> None:
    asked = [(request.prompt.id, request.sampling, request.index) for request in requests]
    if [(c.prompt_id, c.sampling, c.index) for c in found] != asked:
        raise ArtifactError(
            "holds completions of other requests",
            where=str(log),
            remedy="delete this file and run the same command again",
        )


def _read(log: Path) -> list[list[Completion]]:
    """The whole chunks of a log; a torn last line is cut off so that the next append starts on a new line."""
    if not log.exists():
        return []
    raw = log.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) != len(raw):
        log.write_bytes(whole)
    return [[completion_from_json(row) for row in json.loads(line)] for line in whole.decode().splitlines()]
