"""Rows of the log reach the trackers in the form that these take."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from fairlead.config.monitoring import WatchSettings
from fairlead.pipeline.graph import DPO, SFT
from fairlead.training.hf_trainer import TENSORBOARD
from fairlead.training.monitoring.recorder import Tracker
from tests.support.monitored import train_monitored


def test_a_tracker_of_numbers_is_given_numbers_and_one_of_texts_texts_too() -> None:
    recorded: dict[str, Any] = {}

    class MLflowCallback(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            recorded[type(self).__name__] = logs

    class WandbCallback(MLflowCallback):
        pass

    none: Any = None
    for tracker in (MLflowCallback(), WandbCallback()):
        row: dict[str, Any] = {"loss": 0.5, "watch/sample": "text", "run/chosen_longer": None}
        Tracker(tracker).report(none, none, none, row)
        tracker.on_log(none, none, none, logs={"loss": 0.1})  # what the trainer says to it is not passed on
    assert recorded["MLflowCallback"] == {"loss": 0.5}
    assert recorded["WandbCallback"] == {"loss": 0.5, "watch/sample": "text"}


def test_tensorboard_gets_figures_and_texts_and_has_nothing_to_complain_of(tiny_project: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    complaints: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        trainer, _, _ = train_monitored(
            tiny_project, WatchSettings(samples=4, max_new_tokens=8, keep="best"), report_to=["tensorboard"]
        )
    finally:
        logger.removeHandler(handler)
    assert not [line for line in complaints if "Trainer is attempting to log" in line]
    (events,) = Path(trainer.args.output_dir).parent.rglob("events.out.*")
    tags = EventAccumulator(str(events)).Reload().Tags()
    assert {"train/watch/kl", "train/tokens_per_second"} <= set(tags["scalars"])
    assert any("watch/sample" in tag for tag in tags["tensors"])
    # What is kept beside metrics.jsonl; the checkpoints are deleted after the training.
    assert events.parent.name == TENSORBOARD
    assert TENSORBOARD not in {*DPO.scratch, *SFT.scratch}
