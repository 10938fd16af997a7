"""What the benchmarks share: a measurement in a process of its own, TRL's settings, the machine's rate."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from typing import Any

from benchmarks import REPO

TRL = {
    f"trl{', precomputed' * ref}{', checkpointing' * ckpt}": {
        "precompute_ref_log_probs": ref,
        "gradient_checkpointing": ckpt,
    }
    for ref in (True, False)
    for ckpt in (False, True)
}
FAIRLEAD = {
    f"fairlead{', checkpointing' * ckpt}": {"precompute_ref_log_probs": True, "gradient_checkpointing": ckpt}
    for ckpt in (False, True)
}


def run_apart(module: str, *arguments: str, offline: bool = True, limit: float | None = None) -> dict[str, Any] | None:
    """The JSON object that a module prints last, from a process of its own; None where memory or time do not suffice.

    Args:
        limit: seconds after which it is stopped.
        offline: whether nothing is to be asked of the hub; a model named by its id may need it.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=REPO,
            capture_output=True,
            text=True,
            timeout=limit,
            env={**os.environ, "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": str(int(offline))},
        )
    except subprocess.TimeoutExpired:
        return None
    if any(word in done.stderr for word in ("can't allocate memory", "OutOfMemoryError")):
        return None
    if done.returncode:
        sys.exit(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def limit_memory() -> None:
    """Lets an allocation beyond three quarters of the machine's memory fail, which is an answer; a killed process is
    none."""
    limit = int(0.75 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def peak_memory() -> float:
    """GiB that this process has held at most: on the GPU where there is one, else in all."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def product_peak(bf16: bool, seconds: float = 2.0) -> float:
    """Rate of large matrix products kept up over some seconds, in floating-point operations per second."""
    import torch

    on = "cuda" if torch.cuda.is_available() else "cpu"
    size, at_once = (8192, 20) if on == "cuda" else (2048, 1)
    a = torch.randn(size, size, device=on, dtype=torch.bfloat16 if bf16 else torch.float32)
    (a @ a).sum().item()
    done, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        for _ in range(at_once):
            product = a @ a
        product.sum().item()
        done += at_once
    return 2 * size**3 * done / passed


def measured_peaks() -> dict[str, float]:
    """`product_peak` of both precisions, by name."""
    return {name: product_peak(bf16) for name, bf16 in (("float32", False), ("bfloat16", True))}


def precision_of(asked: str, peaks: dict[str, float]) -> str:
    """The precision that `--precision` asks for; "fastest" is the one that this machine multiplies fastest in."""
    return max(peaks, key=lambda name: peaks[name]) if asked == "fastest" else asked


def machine_text(peaks: dict[str, float]) -> str:
    """The machine in words."""
    rates = ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in peaks.items())
    return f"{platform.machine()}, {os.cpu_count()} cores; matrix products: {rates}"


def largest_shares(profiled: Any, most: int) -> dict[str, float]:
    """Share of each operation in the time that `torch.profiler.profile` measured, the largest first."""
    times = {event.key: event.self_device_time_total or event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(times.values())
    return {name: times[name] / total for name in sorted(times, key=lambda name: -times[name])[:most]}
