"""Small projects that run in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[2]


def write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "fairlead.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def tiny_config() -> dict[str, Any]:
    """A config that runs every stage in seconds: random weights, length as the thing preferred."""
    return {
        "name": "tiny",
        "model": {"name": "model", "dtype": "float32"},  # figures and texts must not depend on the machine
        "data": {"sft": "sft.jsonl", "prompts": "prompts.jsonl", "eval": "eval.jsonl"},
        "decide": {"waive": "random weights have nothing to decide"},
        "data_check": {"waive": {"truncated": "random weights do not end their answers"}},
        "lora": {"r": 4, "alpha": 8},
        "sft": {"epochs": 2, "batch_size": 4, "log_every": 1, "eval_every": 4, "save_every": 2, "learning_rate": 1e-3},
        "sample": {"max_new_tokens": 8, "batch_size": 8},
        "judge": {"kind": "rubric", "checks": [{"kind": "function", "name": "short", "function": "checks.py:short"}]},
        "dpo": {"batch_size": 4, "log_every": 1, "eval_every": 2, "save_every": 2, "learning_rate": 1e-3},
        "answers": {"max_new_tokens": 8, "batch_size": 8},
        "eval": {"metrics": [{"kind": "length", "name": "length", "max_words": 3}]},
        "gate": {"criteria": [{"figure": "leaks", "at_most": 0}], "min_prompts": 5},
    }
