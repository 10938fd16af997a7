"""The device of this machine, its free memory, and the number type that is fastest on it."""

from __future__ import annotations

import functools
import logging
import math
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from fairlead.errors import DataError, FairleadError
from fairlead.files import cache_folder, read_json, write_json
from fairlead.records import content_id

logger = logging.getLogger(__name__)

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_SIDE, _TRIES = 768, 4  # of the products that are timed: less than 0.1 s together
_FASTER = 1.2  # by less bfloat16 is not worth its rounding


def device() -> torch.device:
    """The accelerator if there is one (CUDA, XPU, MPS), else the CPU."""
    if torch.accelerator.is_available():
        accelerator = torch.accelerator.current_accelerator()
        if accelerator is not None:
            return accelerator
    return torch.device("cpu")


def computes_bf16(on: torch.device) -> bool:
    """Whether bfloat16 products are faster than those of float32; where they are not, float32 is also more exact."""
    if on.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if on.type == "cpu":
        speeds = cpu_speeds()
        return speeds is not None and speeds.bfloat16 > _FASTER * speeds.float32
    return False


@dataclass(frozen=True)
class Speeds:
    """Of large matrix products, in floating-point operations a second."""

    float32: float
    bfloat16: float


@functools.cache
def cpu_speeds() -> Speeds | None:
    """How fast this CPU multiplies; None where it has no instructions for bfloat16.

    Instructions alone do not tell: some CPUs have them and are slower by them. Measured once for a kind of CPU and a
    version of PyTorch, and kept in the user's cache, so that one machine always decides alike.
    """
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return None
    kept = cache_folder() / f"cpu-{content_id(_cpu_model(), torch.__version__)}.json"
    try:
        return Speeds(**read_json(kept))
    except (DataError, OSError, TypeError):
        speeds = Speeds(*_measure(torch.float32, torch.bfloat16))
    logger.info("measured: %.0f GFLOP/s in float32, %.0f in bfloat16", speeds.float32 / 1e9, speeds.bfloat16 / 1e9)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, asdict(speeds))
    except (FairleadError, OSError) as error:
        logger.debug("the speeds are not kept: %s", error)
    return speeds


def _measure(*dtypes: torch.dtype) -> list[float]:
    """The best of some products in each type, in turns, because other work may slow any of them down."""
    matrices = [torch.ones(_SIDE, _SIDE, dtype=dtype) for dtype in dtypes]
    best = [math.inf] * len(dtypes)
    for _ in range(_TRIES):
        for number, matrix in enumerate(matrices):
            started = time.perf_counter()
            matrix @ matrix
            best[number] = min(best[number], time.perf_counter() - started)
    return [2 * _SIDE**3 / seconds for seconds in best]


def _cpu_model() -> list[str]:
    """What tells kinds of CPU apart."""
    named = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part")
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return [platform.processor(), platform.machine()]
    return sorted({line for line in lines if line.split(":")[0].strip() in named})


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
