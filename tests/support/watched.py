"""A trainer on the tiny project, as the `dpo` stage builds it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fairlead import Project
from fairlead.config.stage_settings import DpoSettings
from fairlead.models.adapters import dpo_start, variants_of
from fairlead.pipeline import datasets
from fairlead.pipeline.stage import Context
from fairlead.training.dpo import build_trainer
from tests.support.projects import tiny_config, write_config


def watched_trainer(
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
