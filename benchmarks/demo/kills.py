"""Kills the demo ten times at random moments and compares its report with an undisturbed run's: `make demo-kills`."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import OUT
from fairlead.files import read_json, write_json

FIGURES = OUT / "demo-kills.json"
KILLS = 10
LONGEST_S = 45.0  # between a start and the kill; the demo takes a few minutes, so that kills reach every stage


def demo(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from fairlead.cli.main import main; main()", "demo", "--out", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def figures(folder: Path) -> Any:
    """report.json without what depends on the clock: `stages`, the files' hashes in `lineage`, all times and costs."""
    report = read_json(folder / "report" / "report.json")
    stable = {key: value for key, value in report.items() if key not in ("stages", "lineage", "versions", "decision")}
    for arm in report["arms"].values():
        del arm["seconds_per_1000"], arm["cost_per_1000"]
    tried = report["decision"]["candidates"]
    return stable | {"decision": [report["decision"]["verdict"], [c["figures"] for c in tried]]}


def finish(folder: Path) -> None:
    process = demo(folder)
    _, output = process.communicate()
    if process.returncode:
        sys.exit(output.decode()[-3000:])


def stage_at(folder: Path) -> str:
    """The stage that was under way."""
    partial = sorted(folder.glob("artifacts/*/*.partial"), key=lambda path: path.stat().st_mtime)
    return partial[-1].parent.name if partial else "making the base model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as work:
        calm, stormy = Path(work) / "calm", Path(work) / "stormy"
        finish(calm)
        moments = []
        while len(moments) < KILLS:
            process = demo(stormy)
            seconds = rng.uniform(1, LONGEST_S)
            try:
                process.wait(seconds)
                break  # it came to its end
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            moments.append({"after_s": round(seconds, 1), "stage": stage_at(stormy)})
            print(f"kill {len(moments):2} after {seconds:4.1f} s, in {moments[-1]['stage']}", flush=True)
        finish(stormy)
        same = figures(calm) == figures(stormy)
    print(f"{len(moments)} kills; the same figures in report.json: {same}")
    write_json(FIGURES, {"kills": moments, "same": same})
    sys.exit(0 if same and len(moments) == KILLS else 1)


if __name__ == "__main__":
    main()
