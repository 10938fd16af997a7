"""The whole way by hand and by Fairlead, stage by stage in turn: `make bench-way`; writes out/way.json.

SFT on 300 security advisories, 4 completions for each of 400 prompts, DPO on the pairs that checks make of them, and
150 answers of base, SFT and DPO. By hand: TRL's SFTTrainer and DPOTrainer and transformers' `generate`, as their
documentation shows, each with the fastest of its settings, which are tried beforehand and not counted. By Fairlead:
`fairlead run` on a project with the same rows and settings; it also checks the data, watches the training, compares the
models and gates, which the way by hand does not. DPO trains on the project's pairs both times.

Each stage is a process of its own, so that its peak memory is its own. Seconds count from the loading of the model;
Python's imports are not in them. Tokens are those that went through the layers, padding included, against those that no
way can do without. The share of the peak is of the layers' products alone, of the rate of large products measured right
before and after.

Run: python -m benchmarks.way [--model NAME] [--precision float32] [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import OUT
from benchmarks.apart import machine_text, measured_peaks, precision_of, run_apart
from benchmarks.way.needed import needed_of
from benchmarks.way.work import ADVISORIES, Work, make_project
from fairlead.demo.pretrained import model_name
from fairlead.errors import FairleadError
from fairlead.files import write_json
from fairlead.models.loading import locate
from fairlead.pipeline.project import Project

FIGURES = OUT / "way.json"
TRIED = {"sft": "best_sft", "sample": "best_batch_size", "dpo": "best_dpo"}
STAGES = ("sft", "sample", "pairs", "dpo", "answers", "gate")
BY_HAND = STAGES[:-1]
QUICK = Work(sft_rows=40, prompts=24, answers=16, max_new_tokens=32)

Figures = dict[str, Any]


def run(way: str, stage: str, spec: Figures) -> Figures:
    """One stage in a process of its own."""
    result = run_apart("benchmarks.way.stage", way, stage, json.dumps(spec), offline=False)
    if result is None:
        sys.exit(f"{way}, {stage}: memory does not suffice")
    print(
        f"  {way:9} {stage:16} {result['seconds']:7.1f} s  {result['peak_gib']:5.2f} GiB  {result['tokens']:9,d} tokens"
        f"  {result['share_of_peak']:4.0%} of the peak",
        flush=True,
    )
    return result


def both(spec: Figures) -> dict[str, dict[str, Figures]]:
    """The figures of every stage, by way."""
    figures: dict[str, dict[str, Figures]] = {"by_hand": {}, "fairlead": {}}
    settings: Figures = {}
    for stage in STAGES:
        figures["fairlead"][stage] = run("fairlead", stage, spec)
        if stage == "pairs":
            spec = {**spec, "pairs": str(Project(Path(spec["project"])).artifact("pairs").file("train.jsonl"))}
        if stage not in BY_HAND:
            continue
        if stage in TRIED:
            tried = run("by_hand", TRIED[stage], spec)
            settings[stage] = tried["told"]["best"]
            print(f"  by hand, {stage}: {settings[stage]} is the fastest of {tried['told']['seconds']}", flush=True)
        chosen = settings.get("sample" if stage == "answers" else stage)
        figures["by_hand"][stage] = run("by_hand", stage, {**spec, "settings": chosen})
    return figures


def rows_of(figures: dict[str, dict[str, Figures]], needed: dict[str, int]) -> list[Figures]:
    """A row of the table for each stage, and one for the sum."""
    rows: list[Figures] = []
    for stage in STAGES:
        theirs, ours = figures["by_hand"].get(stage), figures["fairlead"][stage]
        row: Figures = {"stage": stage, "fairlead": ours["seconds"], "fairlead_gib": ours["peak_gib"],
                        "fairlead_tokens": ours["tokens"], "fairlead_share": ours["share_of_peak"],
                        "needed": needed.get(stage)}  # fmt: skip
        if theirs is not None:
            row |= {"by_hand": theirs["seconds"], "by_hand_gib": theirs["peak_gib"], "by_hand_tokens": theirs["tokens"],
                    "by_hand_share": theirs["share_of_peak"], "ratio": theirs["seconds"] / ours["seconds"],
                    "memory": ours["peak_gib"] / theirs["peak_gib"]}  # fmt: skip
        rows.append(row)
    by_hand, fairlead = (
        sum(figures[way][stage]["seconds"] for stage in figures[way]) for way in ("by_hand", "fairlead")
    )
    return [*rows, {"stage": "whole way", "by_hand": by_hand, "fairlead": fairlead, "ratio": by_hand / fairlead}]


def markdown(rows: list[Figures]) -> str:
    """The table of docs/benchmarks.md."""
    lines = [
        "| stage | by hand, s | Fairlead, s | ratio | memory, GiB | tokens computed by needed | share of the peak |",
        "|---|---:|---:|---:|---|---|---|",
    ]
    for row in rows:
        tokens = [row.get(f"{way}_tokens") for way in ("by_hand", "fairlead")]
        needed = row.get("needed")
        cells = [
            row["stage"],
            _shown(row.get("by_hand"), ".1f"),
            _shown(row["fairlead"], ".1f"),
            _shown(row.get("ratio"), ".1f"),
            _two(row.get("by_hand_gib"), row.get("fairlead_gib"), ".2f"),
            _two(*(count / needed if needed and count is not None else None for count in tokens), ".2f"),
            _two(row.get("by_hand_share"), row.get("fairlead_share"), ".0%"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(value: float | None, form: str) -> str:
    return "—" if value is None else format(value, form)


def _two(by_hand: float | None, fairlead: float | None, form: str) -> str:
    return "—" if by_hand is None and fairlead is None else f"{_shown(by_hand, form)} → {_shown(fairlead, form)}"


def measure(model: str, dtype: str, work: Work, folder: Path) -> Figures:
    """Both ways in a folder, and their table."""
    project = folder / "project"
    make_project(project, model, dtype, work)
    weights = locate(model, project)
    spec = {
        "weights": str(weights), "project": str(project), "out": str(folder / "by-hand"), "dtype": dtype,
        "work": work.values(),
    }  # fmt: skip
    figures = both(spec)
    new_tokens = {stage: figures["by_hand"][stage]["told"]["new_tokens"] for stage in ("sample", "answers")}
    pairs = Project(project).artifact("pairs").file("train.jsonl")
    rows = rows_of(figures, needed_of(Path(weights), project, pairs, work, new_tokens))
    return {"model": model, "dtype": dtype, "work": work.values(), "stages": figures, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--precision", choices=("fastest", "float32", "bfloat16"), default="fastest")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows: whether it works, not how fast")
    options = parser.parse_args()
    if not ADVISORIES.is_file():
        sys.exit(f"real data is not here: {ADVISORIES} does not exist")
    peaks = measured_peaks()
    dtype = precision_of(options.precision, peaks)
    print(f"{machine_text(peaks)}; {options.model} in {dtype}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = measure(model_name(options.model), dtype, QUICK if options.quick else Work(), Path(folder))
        except FairleadError as error:
            sys.exit(str(error))
    write_json(FIGURES, {"peaks": peaks, **result})
    print(f"\n{markdown(result['rows'])}\n\n{(time.monotonic() - started) / 60:.1f} min")


if __name__ == "__main__":
    main()
