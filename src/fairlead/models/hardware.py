"""The device of this machine, and the number type that is fastest on it."""

from __future__ import annotations

import torch


def device() -> torch.device:
    """The accelerator if there is one (CUDA, XPU, MPS), else the CPU."""
    if torch.accelerator.is_available():
        accelerator = torch.accelerator.current_accelerator()
        if accelerator is not None:
            return accelerator
    return torch.device("cpu")


def computes_bf16(on: torch.device) -> bool:
    """Whether bfloat16 products run in hardware; where they are emulated float32 is faster and more exact."""
    if on.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if on.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def resolve_dtype(name: str, on: torch.device) -> torch.dtype:
    """The torch type of a config's `dtype`."""
    if name == "auto":
        return torch.bfloat16 if computes_bf16(on) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
