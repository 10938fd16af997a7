"""Disk and memory: whether the model's size fits at all. Lower bounds, so that nothing is refused that could run."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fairlead.config.training import TrainSection
from fairlead.preflight.base_model import ModelFiles
from fairlead.preflight.problem import Problem
from fairlead.preflight.scope import Scope

_GIB = 2**30
_MARGIN_BYTES = _GIB // 4  # of disk: everything that is written beside weights
_CHECKPOINTS = 2  # that are kept while training
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def too_small(scope: Scope, model: ModelFiles) -> Iterator[Problem]:
    """A disk or a memory that cannot hold what the stages make."""
    trained = {"sft": scope.config.sft, "dpo": scope.config.dpo}
    full = [
        stage
        for stage, section in trained.items()
        if isinstance(section, TrainSection) and section.method == "full" and scope.runs(stage)
    ]
    free = shutil.disk_usage(_existing(scope.folder)).free
    needed = disk_needed(model, full_stages=len(full))
    if scope.stages and needed > free:
        yield Problem(
            "model.name" if not full else f"{full[0]}.method",
            f"the stages write at least {_gib(needed)} to {scope.folder}, where {_gib(free)} are free",
            "free some space, or move the project to a larger disk",
        )
    if model.parameters is None or not scope.loads_base:
        return
    memory, place = _memory()
    needed = memory_needed(model.parameters, bytes_each=_bytes_each(scope), trains_all=bool(full))
    if memory is not None and needed > memory:
        yield Problem(
            "model.name" if not full else f"{full[0]}.method",
            f"a model of {model.parameters / 1e9:.1f} billion weights needs at least {_gib(needed)} here, and {place} "
            f"has {_gib(memory)}",
            "set method: lora, take a smaller model, or a larger machine"
            if full
            else "take a smaller model, model.quantization: 4bit on a CUDA device, or a larger machine",
        )


def disk_needed(model: ModelFiles, *, full_stages: int) -> int:
    """Bytes that are written at least: checkpoints with Adam's two moments, and the result, of each full training."""
    weights = model.weight_bytes or 0
    download = weights if model.folder is None else 0
    return _MARGIN_BYTES + download + full_stages * weights * (1 + 3 * _CHECKPOINTS)


def memory_needed(parameters: int, *, bytes_each: float, trains_all: bool) -> int:
    """Bytes that are held at least: the weights, and with full training a gradient and Adam's two moments of each."""
    return round(parameters * bytes_each * (4 if trains_all else 1))


def _bytes_each(scope: Scope) -> float:
    from fairlead.models.hardware import device, resolve_dtype

    if scope.config.model.quantization == "4bit":
        return 0.5
    return resolve_dtype(scope.config.model.dtype, device()).itemsize


def _memory() -> tuple[int | None, str]:
    """Bytes of the memory that models are loaded into, and its name."""
    import torch

    from fairlead.models.hardware import device

    on = device()
    if on.type == "cuda":
        return int(torch.cuda.get_device_properties(on).total_memory), torch.cuda.get_device_name(on)
    if on.type != "cpu":
        return None, on.type
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None, "this machine"
    with contextlib.suppress(OSError, ValueError):  # no limit is written as "max"
        total = min(total, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    return total, "this machine"


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.resolve().parents) if path.exists())


def _gib(count: float) -> str:
    return f"{count / _GIB:.1f} GiB"
