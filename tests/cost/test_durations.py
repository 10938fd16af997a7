"""How long the stages take, roughly: what the estimate counts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from fairlead import Project
from fairlead.config.project import Config
from fairlead.cost.durations import Sizes, Speed, stage_seconds
from fairlead.cost.forecast import forecast
from tests.support.projects import tiny_config, write_config

PARAMETERS = 135_000_000
SPEED = Speed(flops=1e11, bytes_read=1e10)
SIZES = Sizes(sft=100, prompts=50, pairs=50, eval=30, dev=20, prompt_tokens=100, answer_tokens=20, completions=4)


def seconds(stage: str, sizes: Sizes) -> float:
    return stage_seconds(stage, Config.model_validate(tiny_config()), sizes, PARAMETERS, SPEED)


def test_reading_the_prompts_takes_time_once_for_all_completions() -> None:
    shorter = replace(SIZES, prompt_tokens=0)
    read = 2 * PARAMETERS * SIZES.prompt_tokens / (SPEED.flops * 0.4)  # of one prompt
    for stage, prompts in (("sample", SIZES.prompts), ("answers", 3 * SIZES.eval)):
        assert abs(seconds(stage, SIZES) - seconds(stage, shorter) - prompts * read) < 1e-6


def test_a_decision_on_prompts_of_its_own_file_is_counted(tiny_project: Path) -> None:
    shutil.copy(tiny_project / "eval.jsonl", tiny_project / "dev.jsonl")
    config = tiny_config()
    write_config(
        tiny_project,
        {
            **config,
            "data": {**config["data"], "dev": "dev.jsonl"},
            "decide": {"targets": [{"metric": "length", "at_least": 0.9}]},
        },
    )
    project = Project(tiny_project)
    times = forecast(project, project.remaining("decide"), PARAMETERS).times
    assert "decide" in [row.stage for row in times]
