"""Runs the demo on five seeds and prints what DPO added on each: `make demo-seeds`.

Several run at a time, each on its share of the cores: that is faster, though each takes longer than a demo alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import OUT
from fairlead.files import read_json, write_json

SEEDS = (0, 1, 2, 3, 4)
FIGURES = OUT / "demo-seeds.json"


def run(seed: int, threads: int) -> dict[str, Any]:
    """The figures of one demo."""
    with tempfile.TemporaryDirectory() as work:
        return _run(seed, Path(work) / "demo", threads)


def _run(seed: int, folder: Path, threads: int) -> dict[str, Any]:
    started = time.monotonic()
    command = [sys.executable, "-c", "from fairlead.cli.main import main; main()"]
    done = subprocess.run(
        [*command, "demo", "--out", str(folder), "--seed", str(seed)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        sys.exit(f"seed {seed} failed:\n{done.stderr[-3000:]}")
    report = read_json(folder / "report" / "report.json")
    pair = report["pairwise"]["dpo_vs_sft"]
    row = next(row for row in report["table"] if row["metric"] == "severity_match")
    return {
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        **{f"severity_{view}": row[view] for view in ("base", "sft", "dpo")},
        **{key: pair[key] for key in ("win_rate", "low", "high", "n")},
        "gate": report["gate"]["status"],
        "decision": report["decision"]["verdict"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, default=2, help="demos that run at the same time")
    options = parser.parse_args()
    threads = max(1, (os.cpu_count() or 1) // options.at_once)
    print(
        f"{'seed':>4} {'decision':>13} {'base':>6} {'SFT':>6} {'DPO':>6} {'win rate':>9} {'95 % interval':>16} "
        f"{'gate':>13} {'seconds':>8}"
    )
    rows = []
    with ThreadPoolExecutor(options.at_once) as pool:
        for row in pool.map(lambda seed: run(seed, threads), SEEDS):
            rows.append(row)
            interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
            print(
                f"{row['seed']:>4} {row['decision']:>13} {row['severity_base']:>6.3f} {row['severity_sft']:>6.3f} "
                f"{row['severity_dpo']:>6.3f} {row['win_rate']:>9.3f} {interval:>16} {row['gate']:>13} "
                f"{row['seconds']:>8}",
                flush=True,
            )
    above = sum(row["low"] > 0.5 and row["severity_dpo"] > row["severity_sft"] for row in rows)
    print(f"{above} of {len(SEEDS)} seeds: interval above 50 % and severity match rises")
    write_json(FIGURES, {"rows": rows, "above": above})


if __name__ == "__main__":
    main()
