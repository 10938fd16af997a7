"""A trainer on the tiny project and its monitor, as the `dpo` stage builds them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from fairlead import Project
from fairlead.config.monitoring import WatchSettings
from fairlead.config.stage_settings import DpoSettings
from fairlead.models.adapters import dpo_start, variants_of
from fairlead.pipeline import datasets
from fairlead.pipeline.stage import Context
from fairlead.training import hf_trainer
from fairlead.training.dpo import build_trainer
from fairlead.training.measurements import METRICS, read_metrics
from fairlead.training.monitoring.monitor import TrainingMonitor
from tests.support.projects import tiny_config, write_config


def monitored_trainer(
    folder: Path, *, keep_folder: bool = False, validation: int = 4, **settings: Any
) -> tuple[Any, Context[DpoSettings]]:
    """The trainer before its first step, and its context.

    Args:
        keep_folder: goes on in the folder of the last one instead of an empty one.
        validation: how many validation pairs; the training pairs over and over. None are no validation.
    """
    config = tiny_config()
    config["dpo"].update({"epochs": 2, **settings})
    write_config(folder, config)
    project = Project(folder)
    made = project.run("pairs")
    out = folder / "scratch" / "dpo"
    if not keep_folder:
        shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    context = project.context("dpo", made, out)
    pairs = datasets.preferences(made["pairs"].file("train.jsonl"))
    start = dpo_start(variants_of({"sft": made["sft"].file("model")}))
    seen = (pairs * (1 + validation // len(pairs)))[:validation]
    return build_trainer(context, project.config.dpo, project.config.model, start, pairs, seen), context


def monitor_of(trainer: Any, context: Context[DpoSettings], settings: WatchSettings, **options: Any) -> TrainingMonitor:
    """The monitor of a trainer before its first step."""
    return TrainingMonitor(trainer, settings, context.out / hf_trainer.CHECKPOINTS, **options)


def train_monitored(
    folder: Path, settings: WatchSettings, *callbacks: TrainerCallback, **dpo: Any
) -> tuple[Any, TrainingMonitor, list[dict[str, Any]]]:
    """The trainer after its training, the monitor, and the rows of the log."""
    trainer, context = monitored_trainer(folder, **dpo)
    for callback in callbacks:
        trainer.add_callback(callback)
    monitor = monitor_of(trainer, context, settings)
    hf_trainer.train(trainer, context, "test", monitor)
    return trainer, monitor, read_metrics(context.out / METRICS)
