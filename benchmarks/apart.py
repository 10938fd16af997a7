"""What the DPO benchmarks share: a measurement in a process of its own, TRL's settings, the machine's rate."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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


def run_apart(script: str, *arguments: str, offline: bool = True) -> dict[str, Any] | None:
    """The JSON object that a script prints last, from a process of its own; None where memory does not suffice.

    Args:
        offline: whether nothing is to be asked of the hub; a model named by its id may need it.
    """
    done = subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": str(int(offline))},
    )
    if any(word in done.stderr for word in ("can't allocate memory", "OutOfMemoryError")):
        return None
    if done.returncode:
        sys.exit(f"{Path(script).name} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
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
