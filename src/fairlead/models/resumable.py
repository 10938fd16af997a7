"""Generation that survives a kill: chunks of completions, each appended to a file when it is complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from fairlead.errors import ArtifactError
from fairlead.files import disk_errors, dump_json
from fairlead.models.generation import CompletionRequest, Generator
from fairlead.records import Completion, completion_from_json, to_json


def generate_resumable(
    generator: Generator,
    requests: Sequence[CompletionRequest],
    *,
    log: Path,
    chunk: int,
    seed: int,
    advance: Callable[[int], None],
) -> list[Completion]:
    """Completions of `requests` in order; those that `log` already holds are read instead of generated.

    Args:
        log: JSONL file of whole chunks; one line per chunk, so that half a line is half a chunk and is dropped.
        chunk: requests per chunk: a kill loses the one under way. A completion's text does not depend on its chunk,
            so a resumed run may cut other chunks.
        advance: called with the number of completions that were read from the log; the generator tells of its own.

    Raises:
        ArtifactError: if the log holds completions of other requests.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    completions = _read(log)
    _refuse_others(completions, requests, log)
    advance(len(completions))
    for start in range(len(completions), len(requests), chunk):
        drawn = list(generator.generate(requests[start : start + chunk], seed=seed))
        with disk_errors(log), log.open("a", encoding="utf-8") as file:
            file.write(dump_json([to_json(completion) for completion in drawn]) + "\n")
        completions += drawn
    return completions


def _refuse_others(completions: Sequence[Completion], requests: Sequence[CompletionRequest], log: Path) -> None:
    asked = [(r.prompt.id, r.sampling, r.index, r.model, r.variant) for r in requests[: len(completions)]]
    if [(c.prompt_id, c.sampling, c.index, c.model, c.variant) for c in completions] != asked:
        raise ArtifactError(
            "holds completions of other requests",
            where=str(log),
            remedy="delete this file and run the same command again",
        )


def _read(log: Path) -> list[Completion]:
    """The completions of a log's whole chunks; a torn last line is cut off, so that the next one starts a new line."""
    if not log.exists():
        return []
    raw = log.read_bytes()
    complete_lines = raw[: raw.rfind(b"\n") + 1]
    if len(complete_lines) != len(raw):
        log.write_bytes(complete_lines)
    return [completion_from_json(row) for line in complete_lines.decode().splitlines() for row in json.loads(line)]
