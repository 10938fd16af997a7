"""Small models and rows that the tests of the DPO trainer share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel
from trl import DPOConfig

PROMPTS = ["the disk of the database", "severity: high", "full | service: db, the disk is"]
ROWS = [
    {"prompt": PROMPTS[0], "chosen": " is full", "rejected": " is not the severity"},
    {"prompt": PROMPTS[1], "chosen": " | service: db", "rejected": " the"},
    {"prompt": PROMPTS[0], "chosen": " is full", "rejected": " full of high"},
    {"prompt": PROMPTS[2], "chosen": " high", "rejected": " severity: high, is full of the disk"},
]

STEP: dict[str, Any] = {"max_steps": 1, "optim": "sgd", "max_grad_norm": 1e9, "learning_rate": 1e-2}
"""One step whose change of the weights is the gradient."""


def llama(seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random two-layer Llama that fits the tokenizer of the fixture `tiny_model`."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        **{
            "vocab_size": 300,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "initializer_range": 0.2,  # far from uniform, so that differences show
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            **changes,
        }
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def trainer_of(
    kind: Any, tiny_model: Path, out: Path, *, model: Any = None, rows: Any = None, extra: Any = None, **config: Any
) -> Any:
    """A DPO trainer of either kind, in float32 on the CPU, not yet begun."""
    settings = {"per_device_train_batch_size": 4, "max_length": 64, **config}
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    return plain_trainer(kind, DPOConfig, out, tokenizer, ROWS if rows is None else rows, model, extra, settings)


def plain_trainer(
    kind: Any,
    config: Any,
    out: Path,
    tokenizer: Any,
    rows: Any,
    model: Any,
    extra: Any,
    settings: dict[str, Any],
) -> Any:
    """One of TRL's trainers, or ours in its place, in float32 on the CPU, that saves and reports nothing."""
    args = config(
        output_dir=str(out),
        **{
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
            "gradient_checkpointing": False,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            **settings,
        },
    )
    return kind(
        model=llama() if model is None else model,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        **(extra or {}),
    )
