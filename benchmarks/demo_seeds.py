"""Runs the demo on five seeds and prints what DPO added on each: `make demo-seeds`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fairlead.files import read_json, write_json

SEEDS = (0, 1, 2, 3, 4)
OUT = Path(__file__).parent / "out" / "demo-seeds.json"


def run(seed: int, folder: Path) -> dict[str, object]:
    started = time.monotonic()
    command = [sys.executable, "-c", "from fairlead.cli import main; main()"]
    subprocess.run(
        [*command, "demo", "--out", str(folder), "--seed", str(seed)], check=True, capture_output=True, text=True
    )
    report = read_json(folder / "report" / "report.json")
    pair = report["pairwise"]["dpo_vs_sft"]
    row = next(row for row in report["table"] if row["metric"] == "severity_match")
    return {
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        **{f"severity_{view}": row[view] for view in ("base", "sft", "dpo")},
        **{key: pair[key] for key in ("win_rate", "low", "high", "n")},
        "gate": report["gate"]["status"],
    }


def main() -> None:
    print(f"{'seed':>4} {'SFT':>6} {'DPO':>6} {'win rate':>9} {'95 % interval':>16} {'gate':>13} {'seconds':>8}")
    rows = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            row = run(seed, Path(folder) / "demo")
        rows.append(row)
        interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
        print(
            f"{seed:>4} {row['severity_sft']:>6.3f} {row['severity_dpo']:>6.3f} {row['win_rate']:>9.3f} {interval:>16} "
            f"{row['gate']:>13} {row['seconds']:>8}",
            flush=True,
        )
    above = sum(row["low"] > 0.5 and row["severity_dpo"] > row["severity_sft"] for row in rows)
    print(f"{above} of {len(SEEDS)} seeds: interval above 50 % and severity match rises")
    write_json(OUT, {"rows": rows, "above": above})


if __name__ == "__main__":
    main()
