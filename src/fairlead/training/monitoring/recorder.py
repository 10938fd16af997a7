"""Writes each row of a training's log to `metrics.jsonl` and the trackers, and ends the training on a NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import integration_utils

from fairlead.errors import TrainingError
from fairlead.files import dump_json, write_atomic
from fairlead.progress import Task
from fairlead.training.measurements import Metric, Metrics, TrainingStep, read_metrics


def finite(value: Any) -> Any:
    """Numbers as they are; NaN and infinity as None, because absence is not a value."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Tracker:
    """A callback of transformers that reports to a tracker, which gets rows from `RunOutputs` and not from the trainer.

    It is given what it takes: None nowhere, text only where the tracker knows text; it would drop the rest with a
    warning.
    """

    def __init__(self, callback: TrainerCallback) -> None:
        self._report = callback.on_log
        callback.on_log = _log_nothing
        texts = any(name in type(callback).__name__ for name in ("TensorBoard", "Wandb", "Trackio"))
        self._types = (int, float, str) if texts else (int, float)

    def report(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, row: Metrics, **kwargs: Any
    ) -> None:
        self._report(
            args,
            state,
            control,
            logs={key: value for key, value in row.items() if isinstance(value, self._types)},
            **kwargs,
        )


def _log_nothing(*args: Any, **kwargs: Any) -> None:
    del args, kwargs


def take_trackers(trainer: Trainer, events: Path) -> list[Tracker]:
    """The trainer's trackers; the trainer itself logs nothing to them any more.

    Args:
        events: folder for TensorBoard's files, unless TENSORBOARD_LOGGING_DIR names one. By itself TensorBoard writes
            beside the checkpoints, which are deleted after the training.
    """
    callbacks = trainer.callback_handler.callbacks
    for callback in callbacks:
        if isinstance(callback, integration_utils.TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(events)
    return [Tracker(callback) for callback in callbacks if type(callback).__module__ == integration_utils.__name__]


@dataclass(frozen=True)
class RunOutputs:
    """Where a training's rows go.

    Attributes:
        metrics: `metrics.jsonl` of the run.
        bar: shows how many steps are done.
    """

    metrics: Path
    trackers: Sequence[Tracker]
    bar: Task

    def cut_back(self, step: int) -> list[dict[str, Metric]]:
        """Drops the rows after a step, so that the curve of a resumed training is that of one run; returns the rest."""
        earlier = [row for row in read_metrics(self.metrics) if int(row["step"] or 0) <= step]
        write_atomic(self.metrics, "".join(dump_json(row) + "\n" for row in earlier))
        return earlier

    def write(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, row: Metrics, **kwargs: Any
    ) -> None:
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(dump_json(row) + "\n")
        for tracker in self.trackers:
            tracker.report(args, state, control, row, **kwargs)


class RunRecorder(TrainerCallback):
    """Records a training: metrics, trackers, the bar.

    Attributes:
        outputs: where the rows go; set by `hf_trainer.train` before the training begins.
    """

    outputs: RunOutputs

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.outputs.cut_back(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.outputs.bar.update(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        row = logged_row(state, logs)
        self.outputs.write(args, state, control, row, **kwargs)
        refuse_not_a_number(row, self.outputs.metrics)

    def close(self) -> None:
        """Ends what is shown while the training runs; also called when the training breaks off."""


def logged_row(state: TrainerState, logs: Mapping[str, Any] | None) -> dict[str, Metric]:
    """A row of the log with its step, numbers that are not finite as None."""
    return {"step": state.global_step, **{key: finite(value) for key, value in (logs or {}).items()}}


def refuse_not_a_number(row: Metrics, metrics: Path) -> None:
    """Ends a training whose loss or gradient is not a number.

    Raises:
        TrainingError: naming the step.
    """
    step = TrainingStep.from_metrics(row)
    if step.not_finite:
        raise TrainingError(
            f"not_a_number: the loss or its gradient is not a number at step {step.step}",
            where=str(metrics),
            remedy="lower learning_rate (a tenth is a good try), or train in float32 (model.dtype)",
        )
