"""The device of this machine, its free memory, and the number type that is fastest on it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


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


def free_memory(on: torch.device) -> int:
    """Bytes that a device has left; of the CPU's memory half of what there is where nothing tells."""
    if on.type == "cuda":
        return int(torch.cuda.mem_get_info(on)[0])
    free = [_meminfo(), _group_memory()]
    known = [number for number in free if number is not None]
    if known:
        return min(known)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _meminfo() -> int | None:
    """Linux' estimate of what can be allocated without swapping."""
    if not _MEMINFO.is_file():
        return None
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None


def _group_memory() -> int | None:
    """What a container's limit leaves."""
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if not limit.is_file() or not used.is_file() or limit.read_text().strip() == "max":
        return None
    return max(0, int(limit.read_text()) - int(used.read_text()))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has no memory left; on the CPU PyTorch says it in words alone."""
    words = ("not enough memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)
