"""Whether an adapter's tensors are those that its config demands of the base, without loading the base's weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fairlead.config.model import ModelSection
from fairlead.errors import ModelError, some
from fairlead.models.imported.source import ADAPTER_WEIGHTS, ModelFiles
from fairlead.models.loading import adapter_errors, empty_base

_COPY = "copy or download the adapter again; if it is whole, it was trained on another model"


def check_adapter_tensors(files: ModelFiles, section: ModelSection, folder: Path, base: Path | None) -> LoraConfig:
    """Refuses an adapter whose targets the base lacks, or whose tensors are missing, left over or of other shapes.

    Args:
        base: folder of full weights that it lies on; None is the base model of the config.

    Raises:
        ModelError: naming the first tensors that do not fit.
    """
    tensors = _load(files)
    damaged = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if damaged:
        raise ModelError(
            f"{len(damaged)} of its tensors hold NaN or infinity, such as {damaged[0]}", where=files.where, remedy=_COPY
        )
    with adapter_errors(files.folder, files.where, "it must be trained on the same base"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = LoraConfig.from_pretrained(str(files.folder))
        model = PeftModel(empty_base(section, folder, base), _uninitialised(config), low_cpu_mem_usage=True)
        expected = {name for name, _ in model.named_parameters() if "lora_" in name}
        result = set_peft_model_state_dict(model, dict(tensors), low_cpu_mem_usage=True)
    missing = sorted(expected & set(result.missing_keys))
    if missing or result.unexpected_keys:
        lacks = [f"lacks {len(missing)} of {len(expected)} tensors, such as {missing[0]}"] if missing else []
        extra = [f"has tensors for which its config has no place: {some(result.unexpected_keys, 2)}"]
        raise ModelError("; ".join(lacks + extra * bool(result.unexpected_keys)), where=files.where, remedy=_COPY)
    return config


def _load(files: ModelFiles) -> Mapping[str, Tensor]:
    try:
        tensors: Mapping[str, Tensor] = load_file(files.folder / ADAPTER_WEIGHTS)
    except SafetensorError as error:
        raise ModelError(f"its weights are damaged: {error}", where=files.where, remedy=_COPY) from error
    if not tensors:
        raise ModelError("its weights hold no tensor", where=files.where, remedy=_COPY)
    return tensors


def _uninitialised(config: LoraConfig) -> LoraConfig:
    """The config for a model without weights."""
    return LoraConfig(**{**config.to_dict(), "init_lora_weights": False, "inference_mode": True})
