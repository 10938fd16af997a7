"""DPO training, Fairlead and TRL in turn: `make bench-dpo`; writes out/dpo.json.

Each measurement is a process of its own, so that its peak memory is its own: it builds the model and the trainer,
warms up on two pairs, then is timed over the reference pass and the training steps together. TRL is tried with the
reference precomputed and not, with gradient checkpointing and without; the best of these runs in turn with Fairlead. A
shared machine's speed moves between two runs; the ratio is therefore printed a second time with each run's seconds
multiplied by the rate of large matrix products in its own process.

Model: a Llama shape of 135 M parameters (30 layers, 576 wide, vocabulary 49,152), random, LoRA r=16 on q, k, v, o.
Rows: (a) long prompt, short answer: advisories; (b) short prompt, long answer: one-turn rows of dpo_en_demo.json;
(c) its rows of several turns. Batches of 8 pairs. The precision is the one this machine multiplies matrices fastest in,
unless --precision says which. The share of the peak is of the products' rate over seconds, measured in the same process
right before and after. Both run with torch's huge pages, which importing Fairlead switches on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from typing import Any

from benchmarks import OUT
from benchmarks.apart import TRL, machine_text, measured_peaks, precision_of, run_apart
from benchmarks.dpo.measure import CONTENDERS, measure
from benchmarks.dpo.rows import SHAPES
from fairlead.files import write_json

FIGURES = OUT / "dpo.json"
CASES = {"a": "long prompt, short answer", "b": "short prompt, long answer", "c": "several turns"}


# The table


def run(**spec: Any) -> dict[str, Any] | None:
    """One measurement in a process of its own; None where memory does not suffice."""
    with tempfile.TemporaryDirectory() as folder:
        return run_apart("benchmarks.dpo", "--one", json.dumps({**spec, "folder": folder}))


def print_measurement(name: str, measurement: dict[str, Any] | None) -> None:
    what = (
        "out of memory"
        if measurement is None
        else f"{measurement['seconds']:8.1f} s  {measurement['peak_gib']:5.2f} GiB"
    )
    print(f"  {name:34} {what}", flush=True)


def best_of_trl(spec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The fastest of TRL's settings that fits into memory, and its first measurement.

    The settings are ranked on two pairs, and tried on all in that order.
    """
    ranks = {name: run(contender=name, **{**spec, "pairs": 2}) for name in TRL}
    for name in sorted(TRL, key=lambda name: (ranks[name] or {"seconds": math.inf})["seconds"]):
        measurement = run(contender=name, **spec)
        print_measurement(name, measurement)
        if measurement is not None:
            return name, measurement
    sys.exit("no setting of TRL fits into memory")


def compare(case: str, shape: str, pairs: int, rounds: int, bf16: bool) -> dict[str, Any]:
    """Fairlead and the best of TRL's settings on one case."""
    spec = {"case": case, "shape": shape, "pairs": pairs, "bf16": bf16}
    print(f"\n({case}) {CASES[case]}, {pairs} pairs", flush=True)
    best, first = best_of_trl(spec)
    ours: list[dict[str, Any]] = []
    theirs = [first]
    for number in range(rounds):
        if len(ours) == len(theirs):
            theirs.append(run(contender=best, **spec) or sys.exit(f"{best} ran out of memory"))
            print_measurement(best, theirs[-1])
        counting = number == rounds - 1  # after its timing; the operations are the same in every round
        ours.append(run(contender="fairlead", flops=counting, **spec) or sys.exit("Fairlead ran out of memory"))
        print_measurement("fairlead", ours[-1])
    lean = run(contender="fairlead, checkpointing", **spec)
    print_measurement("fairlead, checkpointing", lean)
    median = statistics.median(row["seconds"] for row in ours)
    flops = ours[-1]["flops"]
    shares = [flops / row["seconds"] / row["product_peak"] for row in ours]
    ratios = sorted(b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True))
    work = [[row["seconds"] * row["product_peak"] for row in rows] for rows in (ours, theirs)]
    at_rate = statistics.median(b / a for a, b in zip(*work, strict=True))
    summary = {
        "case": case,
        "best_trl": best,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "ratio_at_same_rate": at_rate,
        "pairs_per_second": ours[0]["pairs"] / median,
        "tokens_per_second": ours[0]["tokens"] / median,
        "flops": flops,
        "product_peaks": [row["product_peak"] for row in (*ours, *theirs)],
        "share_of_peak": statistics.median(shares),
        "memory_ratio": ours[0]["peak_gib"] / theirs[0]["peak_gib"],
        "memory_ratio_checkpointing": lean and lean["peak_gib"] / theirs[0]["peak_gib"],
        "loss_difference": abs(ours[0]["loss"] - theirs[0]["loss"]),
        "runs": {"fairlead": ours, best: theirs, "fairlead, checkpointing": [lean]},
    }
    print(
        f"  {summary['ratio']:.1f}x as fast as {best} ({ratios[0]:.1f} to {ratios[-1]:.1f}; "
        f"{at_rate:.1f}x in products of each run's own rate), "
        f"{summary['pairs_per_second']:.2f} pairs/s, "
        f"{summary['tokens_per_second']:.0f} tokens a second by TRL's count, "
        f"{summary['share_of_peak']:.0%} of the matrix-product peak, {summary['memory_ratio']:.2f} of the memory "
        f"({summary['memory_ratio_checkpointing'] or math.nan:.2f} with checkpointing)",
        flush=True,
    )
    return summary


def show_profile(contender: str, **spec: Any) -> None:
    """Prints where a contender's time goes, and how much of it the matrix products must take."""
    measurement = run(contender=contender, profile=True, flops=True, **spec) or sys.exit(
        f"{contender} ran out of memory"
    )
    print(f"({spec['case']}) {contender}, {spec['pairs']} pairs, {measurement['peak_gib']:.1f} GiB")
    print("  tokens of the first batch: " + ", ".join(f"{n} {name}" for name, n in measurement["counts"].items()))
    rate = measurement["flops"] / measurement["seconds"]
    print(f"  {measurement['flops'] / 1e12:.2f} TFLOP of products in {measurement['seconds']:.1f} s: "
          f"{rate / measurement['product_peak']:.0%} of {measurement['product_peak'] / 1e9:.0f} GFLOP/s")  # fmt: skip
    for name, share in measurement["profile"].items():
        print(f"  {share:6.1%}  {name}")


def scaling(bf16: bool, shape: str) -> list[dict[str, Any]]:
    """Time per pair of the reference pass and a step: prompt length, completions, vocabulary, a system prompt."""
    sizes = {"prompt": 512, "answer": 64, "completions": 2, "prompts": 1, "system": 0}
    base = {**sizes, "shape": shape, "bf16": bf16}
    series = [
        {},
        *({"prompt": length} for length in (128, 1024, 4096)),
        *({"completions": count} for count in (4, 8)),
        *({"vocabulary": size} for size in (32_768, 262_144)),
        *({"prompts": 8, "prompt": 64, "system": length} for length in (0, 512)),
    ]
    rows = []
    print(f"\nscaling, {shape} shape: 512 prompt tokens, 64 answer tokens, 2 completions where not said otherwise")
    for change in series:
        settings = {**base, **change}
        pairs = settings["prompts"] * settings["completions"] * (settings["completions"] - 1) // 2
        measurements = [run(contender=name, once_more=True, **settings) for name in ("fairlead", "trl, precomputed")]
        ours, theirs = (measurement and measurement["once_more"] / pairs for measurement in measurements)
        rows.append({**change, "fairlead_s": ours, "trl_s": theirs, "ratio": ours and theirs and theirs / ours})
        print(
            f"  {change!s:44} "
            + ", ".join(
                f"{name} " + ("out of memory" if seconds is None else f"{seconds:.2f} s a pair")
                for name, seconds in (("Fairlead", ours), ("TRL", theirs))
            )
            + (f", {theirs / ours:.1f}x" if ours and theirs else ""),
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--cases", default="abc")
    parser.add_argument("--shape", default="135m", choices=SHAPES)
    parser.add_argument("--pairs", type=int, default=16, help="pairs of each case")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("fastest", "float32", "bfloat16"), default="fastest")
    parser.add_argument("--no-scaling", action="store_true")
    parser.add_argument("--profile", choices=CASES, help="print what a contender spends its time on in a case, no more")
    parser.add_argument("--tokens-at-once", type=int, help="for --profile: how many tokens Fairlead computes at once")
    parser.add_argument("--contender", choices=CONTENDERS, default="fairlead", help="whose profile")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(json.loads(options.one))))
        return
    peaks = measured_peaks()
    precision = precision_of(options.precision, peaks)
    bf16 = precision == "bfloat16"
    print(f"{machine_text(peaks)}; both train in {precision}", flush=True)
    if options.profile:
        spec = {"case": options.profile, "shape": options.shape, "pairs": options.pairs, "bf16": bf16}
        show_profile(options.contender, **spec, tokens_at_once=options.tokens_at_once)
        return
    result: dict[str, Any] = {"peaks": peaks, "bf16": bf16, "shape": options.shape, "cases": [], "scaling": []}
    for case in options.cases:
        result["cases"].append(compare(case, options.shape, options.pairs, options.rounds, bf16))
        write_json(FIGURES, result)  # a case takes long; what is measured stays when a later one is stopped
    if not options.no_scaling:
        result["scaling"] = scaling(bf16, "20m" if options.shape == "135m" else options.shape)
        write_json(FIGURES, result)


if __name__ == "__main__":
    main()
