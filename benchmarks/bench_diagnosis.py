"""Makes every failure mode on five seeds and prints what the diagnosis named: `make bench-diagnosis`.

A training counts as recognised where its own failure mode is named; whether that is also what the diagnosis says first,
and what else it names, stands beside. `--noise` (`make bench-label-noise`) is what `label_noise: measured` does about
flipped labels.
Base model, SFT and pairs are made once.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from diagnosis_lab import CASES, NOISY, Case, Lab, label_noise_run, train_and_read
from rich.console import Console

from fairlead.config.monitoring import WatchSettings
from fairlead.demo.project import make_project
from fairlead.documents.diagnosis import actionable
from fairlead.files import write_json, write_jsonl
from fairlead.progress import Lines
from fairlead.statistics.intervals import paired_difference
from fairlead.training.diagnosis.rules import diagnose

OUT = Path(__file__).parent / "out"
SEEDS = 5
FIRST = 41  # the thresholds were set on smaller ones

# The finding that each case is made to draw.
OWN: dict[str, str | None] = {
    "healthy": None,
    "lr x100": "kl_spike",
    "beta 1.0": "too_conservative",
    "beta 0.001": "too_aggressive",
    "20 epochs, 60 pairs": "overfitting",
    "40 % flipped": "label_noise",
    "longer chosen": "length_exploitation",
    "scrambled template": "formatting",
}


def confusion(lab: Lab, cases: list[Case], seeds: int) -> list[dict[str, Any]]:
    """One row per training: what was made, what was named."""
    rows = []
    for case in cases:
        for seed in range(FIRST, FIRST + seeds):
            started = time.monotonic()
            log = train_and_read(lab, case, seed, WatchSettings())
            write_jsonl(OUT / "diagnosis" / f"{case.name.replace(' ', '-')}-{seed}.jsonl", log)
            named = [finding.rule for finding in actionable(diagnose(log))]
            rows.append({"case": case.name, "seed": seed, "named": named})
            print(f"  {case.name:<22} seed {seed}  {time.monotonic() - started:5.1f} s  {', '.join(named)}", flush=True)
    return rows


def table(rows: list[dict[str, Any]], seeds: int) -> str:
    """The confusion table: of each case, in how many seeds its own rule spoke, spoke first, and what else spoke.

    "alone" counts the seeds in which nothing but the own rule spoke, and for the healthy training those in which
    nothing did.
    """
    rules = list(dict.fromkeys(name for row in rows for name in row["named"]))
    head = ["made", "its own is named", "named first", "alone", *rules]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in dict.fromkeys(row["case"] for row in rows):
        of_case, own_rule = [row["named"] for row in rows if row["case"] == name], OWN[name]
        expected = [] if own_rule is None else [own_rule]
        counts = Counter(rule for named in of_case for rule in named)
        cells = [
            "—" if own_rule is None else f"{counts[own_rule]} of {seeds}",
            "—" if own_rule is None else f"{sum(named[:1] == expected for named in of_case)} of {seeds}",
            f"{sum(named == expected for named in of_case)} of {seeds}",
            *(str(counts[rule] or "") for rule in rules),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def noise(lab: Lab, case: Case, seeds: int) -> dict[str, Any]:
    """Plain DPO and `label_noise: measured` on the same flipped pairs, by the task's own score of sampled answers."""
    scores_of: dict[str, list[float]] = {"plain": [], "measured": []}
    accuracy: dict[str, list[float]] = {"plain": [], "measured": []}
    prompts: list[str] = []
    for seed in range(1, seeds + 1):
        for name in scores_of:
            scores, right, ids, known = label_noise_run(lab, case, seed, measured_noise=name == "measured")
            scores_of[name] += scores
            accuracy[name] += right
            print(f"  {case.name}  {name:<9} seed {seed}  score {sum(scores) / len(scores):.3f}  {known}", flush=True)
        prompts += ids
    score = paired_difference(scores_of["measured"], scores_of["plain"], prompts, bounds=(0, 1))
    right = paired_difference(accuracy["measured"], accuracy["plain"], bounds=(0, 1))
    return {
        "score": {name: sum(values) / len(values) for name, values in scores_of.items()},
        "accuracy": {name: sum(values) / len(values) for name, values in accuracy.items()},
        "score_difference": [score.value, score.low, score.high, score.n],
        "accuracy_difference": [right.value, right.low, right.high, right.n],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=OUT / "diagnosis-project")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--noise", action="store_true", help="label noise in the loss instead of the confusion table")
    options = parser.parse_args()
    make_project(options.project, seed=0, progress=Lines(Console(stderr=True)))
    lab = Lab(options.project, OUT / "diagnosis-scratch")
    if options.noise:
        cases = [case for case in NOISY if not options.cases or case.name in options.cases]
        labs = {True: lab, False: Lab(options.project, OUT / "diagnosis-scratch", well_formed=False)}
        results = {case.name: noise(labs[case.well_formed], case, options.seeds) for case in cases}
        for name, result in results.items():
            for figure in ("score", "accuracy"):
                plain, measured = (result[figure][loss] for loss in ("plain", "measured"))
                value, low, high, n = result[f"{figure}_difference"]
                change = f"{value:+.3f} [{low:+.3f}, {high:+.3f}], n {n}"
                print(f"| {name} | {figure} | {plain:.3f} | {measured:.3f} | {change} |")
        write_json(OUT / "label-noise.json", results)
        return
    cases = [case for case in CASES if not options.cases or case.name in options.cases]
    rows = confusion(lab, cases, options.seeds)
    text = table(rows, options.seeds)
    print(f"\n{text}\n")
    write_json(OUT / "diagnosis.json", {"rows": rows, "table": text})


if __name__ == "__main__":
    main()
