"""Rows that the tests of the SFT trainer share, and trainers on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from trl import SFTConfig

from tests.support.preference_rows import plain_trainer

INSTRUCTION = "the service of the database is full and db: severity: "  # more tokens than prompts must have in common
ROWS = [
    {"prompt": INSTRUCTION + "the disk", "completion": " is full"},
    {"prompt": "severity: high", "completion": " | service: db of the disk"},
    {"prompt": INSTRUCTION + "db, the disk is", "completion": " high"},
    {"prompt": INSTRUCTION + "the disk", "completion": " is high, is full of the disk"},
    {"prompt": INSTRUCTION + "high", "completion": " the"},
    {"prompt": "severity: high", "completion": " | service: db of the disk"},
]
TEXTS = [{"text": row["prompt"] + row["completion"]} for row in ROWS]
TURNS = [
    {
        "messages": [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["completion"]},
            {"role": "user", "content": "the disk"},
            {"role": "assistant", "content": f"is {row['prompt'][:8]}"},
        ]
    }
    for row in ROWS
]
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content + '</s>' }}"
    "{% endgeneration %}{% else %}{{ m.content }} {% endif %}{% endfor %}"
)


def sft_trainer_of(
    kind: Any, tiny_model: Path, out: Path, *, model: Any = None, rows: Any = None, extra: Any = None, **config: Any
) -> Any:
    """A trainer of either kind, in float32 on the CPU, not yet begun."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = TEMPLATE
    settings = {"per_device_train_batch_size": 6, "per_device_eval_batch_size": 4, "max_length": 96, **config}
    return plain_trainer(kind, SFTConfig, out, tokenizer, ROWS if rows is None else rows, model, extra, settings)
