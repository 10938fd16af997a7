"""One stage of one way, in a process of its own: `python -m benchmarks.way.stage by_hand|fairlead STAGE SPEC`."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import transformers

from benchmarks.apart import limit_memory, peak_memory, product_peak
from benchmarks.way import by_hand
from benchmarks.way.tokens import counted
from benchmarks.way.work import Work
from fairlead import Project


def measure(way: str, stage: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the start of the stage, with the model's loading and without Python's imports.

    Returns:
        seconds, peak_gib, product_peak (FLOP/s, the larger of before and after), tokens computed, what the layers'
        products take of the peak, and what the stage says of itself.
    """
    bf16 = spec["dtype"] == "bfloat16"
    before = product_peak(bf16)
    with counted(Path(spec["weights"])) as (computed, layer_weights):
        started = time.perf_counter()
        if way == "fairlead":
            told = _of_project(Path(spec["project"]), stage)
        else:
            told = by_hand.STAGES[stage](spec, Work.of(spec["work"]))
        seconds = time.perf_counter() - started
    peak_gib, peak = peak_memory(), max(before, product_peak(bf16))
    return {
        "seconds": seconds,
        "peak_gib": peak_gib,
        "product_peak": peak,
        "tokens": computed.tokens,
        "with_gradient": computed.with_gradient,
        "share_of_peak": computed.flops(layer_weights) / seconds / peak,
        "told": told,
    }


def _of_project(folder: Path, stage: str) -> dict[str, Any]:
    """Runs the project up to a stage; the seconds of each stage that ran."""
    project = Project(folder)
    ran = [node.name for node in project.remaining(stage)]
    made = project.run(stage)
    return {"stages": {name: made[name].manifest.seconds for name in ran}}


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    limit_memory()
    way, stage, spec = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    with contextlib.redirect_stdout(sys.stderr):
        result = measure(way, stage, spec)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
