"""Adapters and full weights as another tool leaves them: plain PEFT and transformers, without this project's names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from fairlead.files import read_json, write_json


def make_adapter(base: Path, folder: Path, *, named: str | None = None, tokenizer: bool = False, **lora: Any) -> Path:
    """A PEFT adapter with weights that matter.

    Args:
        named: the base's name in its config; `base` if not given.
        tokenizer: whether the base's tokenizer is saved beside it, as trainers do.
        lora: settings of PEFT's `LoraConfig`.
    """
    settings = {"r": 3, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", **lora}
    model = get_peft_model(_model(base), LoraConfig(**settings))
    _move(model, lambda name: "lora_" in name)
    model.save_pretrained(str(folder))
    if named is not None:
        edit_config(folder, base_model_name_or_path=named)
    if tokenizer:
        AutoTokenizer.from_pretrained(str(base)).save_pretrained(str(folder))
    return folder


def make_weights(base: Path, folder: Path, *, tokenizer: bool = True) -> Path:
    """Full weights that were trained from a base."""
    model = _model(base)
    _move(model, lambda name: "proj" in name)
    model.save_pretrained(str(folder))
    if tokenizer:
        AutoTokenizer.from_pretrained(str(base)).save_pretrained(str(folder))
    return folder


def edit_config(folder: Path, **values: Any) -> None:
    """Sets values of an adapter's config."""
    path = folder / "adapter_config.json"
    write_json(path, {**read_json(path), **values})


def _model(base: Path) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
    return model


def _move(model: PreTrainedModel | PeftModel, chosen: Callable[[str], bool]) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if chosen(name):
                parameter.add_(0.05 * torch.randn_like(parameter))
