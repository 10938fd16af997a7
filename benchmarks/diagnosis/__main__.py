"""Makes every failure mode on several seeds and prints what the diagnosis named: `make bench-diagnosis`.

A training counts as recognised where its own failure mode is named; whether that is also what the diagnosis says first,
and what else it names, stands beside. `--model` (`make bench-diagnosis MODEL=smollm2`) takes a pretrained model in the
place of the demo's small one. `--read` diagnoses the logs of earlier trainings again. `--noise` (`make
bench-label-noise`) is what `label_noise: measured` does about flipped labels.
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

from benchmarks import OUT
from benchmarks.diagnosis.cases import NOISY, PRETRAINED, SMALL, Case, cases_of
from benchmarks.diagnosis.lab import Lab, lab_name, label_noise_run, make_lab, train_and_read
from fairlead.documents.diagnosis import actionable
from fairlead.files import write_json, write_jsonl
from fairlead.statistics.intervals import paired_difference
from fairlead.training.diagnosis.rules import diagnose
from fairlead.training.measurements import read_metrics

SEEDS, PRETRAINED_SEEDS = 5, 2
FIRST = 41  # the thresholds were set on smaller ones


def confusion(lab: Lab, cases: list[Case], seeds: range, logs: Path) -> list[dict[str, Any]]:
    """One row per training: what was made, what was named."""
    rows = []
    for case in cases:
        for seed in seeds:
            started = time.monotonic()
            log = train_and_read(lab, case, seed)
            write_jsonl(log_of(logs, case, seed), log)
            rows.append(row_of(case, seed, log))
            print(f"{time.monotonic() - started:6.1f} s  {shown(rows[-1])}", flush=True)
    return rows


def read_again(cases: list[Case], seeds: range, logs: Path) -> list[dict[str, Any]]:
    """The rows of the trainings whose logs are there."""
    found = [(case, seed, read_metrics(log_of(logs, case, seed))) for case in cases for seed in seeds]
    rows = [row_of(case, seed, log) for case, seed, log in found if log]
    print("\n".join(map(shown, rows)))
    return rows


def log_of(logs: Path, case: Case, seed: int) -> Path:
    return logs / f"{case.name.replace(' ', '-')}-{seed}.jsonl"


def row_of(case: Case, seed: int, log: list[dict[str, Any]]) -> dict[str, Any]:
    named = [finding.rule for finding in actionable(diagnose(log))]
    return {"case": case.name, "own": case.own, "seed": seed, "named": named}


def shown(row: dict[str, Any]) -> str:
    return f"  {row['case']:<22} seed {row['seed']}  {', '.join(row['named'])}"


def table(rows: list[dict[str, Any]]) -> str:
    """The confusion table: of each case, in how many seeds its own rule spoke, spoke first, and what else spoke.

    "alone" counts the seeds in which nothing but the own rule spoke, and for the healthy training those in which
    nothing did.
    """
    rules = list(dict.fromkeys(name for row in rows for name in row["named"]))
    head = ["made", "its own is named", "named first", "alone", *rules]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name in dict.fromkeys(row["case"] for row in rows):
        of_case = [row["named"] for row in rows if row["case"] == name]
        own_rule, seeds = next(row["own"] for row in rows if row["case"] == name), len(of_case)
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


def noise_table(project: Path | None, names: list[str], seeds: int) -> None:
    """Prints what the loss gains from knowing the noise, and writes it."""
    cases = [case for case in NOISY if not names or case.name in names]
    labs = {well_formed: make_lab(None, project, well_formed=well_formed) for well_formed in (True, False)}
    results = {case.name: noise(labs[case.well_formed], case, seeds) for case in cases}
    for name, result in results.items():
        for figure in ("score", "accuracy"):
            plain, measured = (result[figure][loss] for loss in ("plain", "measured"))
            value, low, high, n = result[f"{figure}_difference"]
            change = f"{value:+.3f} [{low:+.3f}, {high:+.3f}], n {n}"
            print(f"| {name} | {figure} | {plain:.3f} | {measured:.3f} | {change} |")
    write_json(OUT / "label-noise.json", results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a pretrained model, as fairlead demo --model takes it")
    parser.add_argument("--project", type=Path, help="folder of the lab's project")
    parser.add_argument("--seeds", type=int, help=f"of each case: {SEEDS}, or {PRETRAINED_SEEDS} with --model")
    parser.add_argument("--first-seed", type=int, default=FIRST)
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--read", action="store_true", help="train nothing: diagnose the logs of earlier trainings")
    parser.add_argument("--noise", action="store_true", help="label noise in the loss instead of the confusion table")
    options = parser.parse_args()
    if options.noise and options.model:
        parser.error("--noise is measured with the demo's small model: leave --model out")
    scale = PRETRAINED if options.model else SMALL
    count = options.seeds or (PRETRAINED_SEEDS if options.model else SEEDS)
    name = lab_name("diagnosis", options.model)
    if options.noise:
        noise_table(options.project, options.cases, options.seeds or SEEDS)
        return
    cases = [case for case in cases_of(scale) if not options.cases or case.name in options.cases]
    seeds, logs = range(options.first_seed, options.first_seed + count), OUT / name
    if options.read:
        rows = read_again(cases, seeds, logs)
    else:
        rows = confusion(make_lab(options.model, options.project), cases, seeds, logs)
    text = table(rows)
    print(f"\n{text}\n")
    write_json(OUT / f"{name}.json", {"rows": rows, "table": text})


if __name__ == "__main__":
    main()
