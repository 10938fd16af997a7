"""Reads the log of a training: Fairlead's `metrics.jsonl`, or the `trainer_state.json` of transformers and TRL.

Imports no training library, so that a log can be read where none is installed, and at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.errors import DataError
from fairlead.files import read_json
from fairlead.training.measurements import METRICS, Metric, Metrics, number, read_metrics

TRAINER_STATE = "trainer_state.json"

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_KL = ("kl", "objective/kl")  # names under which trainers log the KL from the reference, in nats per answer
LOG_NEEDED = f"give the {METRICS} or {TRAINER_STATE} of a DPO training, or a folder that holds one"


@dataclass(frozen=True)
class TrainingLog:
    """The rows of a log, by the names of `metrics.jsonl`, and the file that they come from."""

    path: Path
    rows: list[dict[str, Metric]]


def log_file(path: Path) -> Path | None:
    """The log in a folder: its own, or that of the newest checkpoint below it; None where it holds none."""
    for name in (METRICS, TRAINER_STATE):
        if (path / name).is_file():
            return path / name
    checkpoints = [
        (int(match[1]), state)
        for state in path.glob(f"checkpoint-*/{TRAINER_STATE}")
        if (match := _CHECKPOINT.fullmatch(state.parent.name))
    ]
    return max(checkpoints)[1] if checkpoints else None


def read_log(path: Path) -> TrainingLog:
    """The log at a path: a file, a folder that holds one, or a folder of checkpoints, of which the newest counts.

    Raises:
        DataError: if there is none, or it cannot be read.
    """
    file = log_file(path) if path.is_dir() else path
    if file is None:
        raise DataError("holds no log of a training", where=str(path), remedy=LOG_NEEDED)
    if not file.exists():
        raise DataError("no such file", where=str(file), remedy=LOG_NEEDED)
    return TrainingLog(file, _state_rows(file) if file.suffix == ".json" else read_metrics(file))


def _state_rows(path: Path) -> list[dict[str, Metric]]:
    """The rows of a `trainer_state.json`, after one with what it says of the whole training.

    The learning rate is logged at each step as the schedule has it; the highest stands for the one that was set.
    """
    state = read_json(path)
    history = state.get("log_history") if isinstance(state, Mapping) else None
    if not isinstance(history, list):
        raise DataError("has no log_history", where=str(path), remedy=LOG_NEEDED)
    rows = [_with_own_names(row) for row in history if isinstance(row, Mapping)]
    rates = [rate for row in rows if (rate := number(row.get("learning_rate"))) is not None]
    facts: dict[str, Metric] = {
        "run/steps": number(state.get("max_steps")) or None,
        "run/epochs": number(state.get("num_train_epochs")),
        "run/learning_rate": max(rates, default=None),
    }
    known = {key: value for key, value in facts.items() if value is not None}
    return [{"step": 0, **known}, *rows] if rows else []


def _with_own_names(row: Mapping[str, Any]) -> dict[str, Metric]:
    """A row of `log_history`, with the names of `metrics.jsonl` for what trainers name otherwise, or leave implied."""
    named: dict[str, Metric] = dict(row)
    if (kl := _first(row, _KL)) is not None:
        named.setdefault("watch/kl", kl)
    seconds, speed = number(row.get("eval_runtime")), number(row.get("eval_samples_per_second"))
    if seconds and speed:
        named.setdefault("eval_pairs", round(seconds * speed))
    return named


def _first(row: Metrics, names: Iterable[str]) -> float | None:
    return next((value for name in names if (value := number(row.get(name))) is not None), None)
