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
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from apart import FAIRLEAD, TRL, largest_shares, limit_memory, peak_memory, product_peak, run_apart

from fairlead.files import read_json, write_json

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data"
OUT = HERE / "out" / "dpo.json"
SHAPES = {
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49_152},
    "20m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49_152},
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "vocab_size": 151_936},
    "7b": {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152_064},
}  # fmt: skip
CASES = {"a": "long prompt, short answer", "b": "short prompt, long answer", "c": "several turns"}
CONTENDERS: dict[str, dict[str, bool]] = {**FAIRLEAD, **TRL}
BATCH = 8
MAX_LENGTH = 1024
ROOM = 128  # tokens that a prompt leaves for its answers; both would drop a pair that is cut away


# Rows


def rows_of(case: str) -> Iterator[dict[str, str]]:
    """Preference rows as plain text."""
    if case == "a":
        levels = ("low", "medium", "high", "critical")
        for line in (DATA / "advisories.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            wrong = levels[(levels.index(row["severity"]) + 1) % 4] if row["severity"] in levels else "low"
            prompt = f"How severe is this?\n\n{row['package']}: {row['title']}\n\n{row['text']}\n\n"
            if len(prompt) > 700:
                yield {
                    "prompt": prompt,
                    "chosen": f"severity: {row['severity']} | package: {row['package']}",
                    "rejected": f"severity: {wrong} | package: {row['package']}",
                }
        return
    for row in read_json(DATA / "dpo_en_demo.json"):
        turns = row["conversations"]
        if (len(turns) == 1) == (case == "b"):
            prompt = "".join(f"<{turn['from']}> {turn['value']}\n" for turn in turns) + "<gpt> "
            yield {"prompt": prompt, "chosen": row["chosen"]["value"], "rejected": row["rejected"]["value"]}


def synthetic(prompt: int, answer: int, completions: int, prompts: int, system: int) -> list[dict[str, str]]:
    """All pairs of each prompt's completions, the prompts after one system prompt; a word is a token."""
    start = "".join(f"w{i % 900} " for i in range(system))
    heads = [start + "".join(f"w{(i + 17 * n) % 900} " for i in range(prompt)) for n in range(prompts)]
    texts = [" ".join(f"w{1000 + (7 * i + 31 * k) % 9000}" for i in range(answer)) for k in range(completions)]
    pairs = [(texts[i], texts[j]) for i in range(completions) for j in range(i)]
    return [{"prompt": head, "chosen": chosen, "rejected": rejected} for head in heads for chosen, rejected in pairs]


def word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<pad>", "</s>", *(f"w{i}" for i in range(10_000))])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="</s>")


def tokenizer_of(case: str) -> Any:
    """A byte-level BPE of 16 k tokens, trained on the rows; real tokenizers give about as many tokens a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=16_000,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((text for row in rows_of(case) for text in row.values()), trainer=trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


# One measurement, in a process of its own


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    import torch
    import transformers
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    import fairlead

    transformers.utils.logging.set_verbosity_error()
    cuda = torch.cuda.is_available()
    if not cuda:
        limit_memory()
    case = spec.get("case")
    tokenizer = tokenizer_of(case) if case else word_tokenizer()
    if case:
        fits = (row for row in rows_of(case) if len(tokenizer(row["prompt"])["input_ids"]) <= MAX_LENGTH - ROOM)
        pairs = list(islice(fits, spec["pairs"]))
    else:
        pairs = synthetic(**{name: spec[name] for name in ("prompt", "answer", "completions", "prompts", "system")})
    torch.manual_seed(0)
    shape = {**SHAPES[spec["shape"]], **({"vocab_size": spec["vocabulary"]} if "vocabulary" in spec else {})}
    config = LlamaConfig(**shape, max_position_embeddings=8192, tie_word_embeddings=True)
    with torch.device("cuda" if cuda else "cpu"):
        model = LlamaForCausalLM(config)
    if spec["bf16"] and cuda:
        model = model.to(torch.bfloat16)
    lora = LoraConfig(
        r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"
    )
    policy = get_peft_model(model, lora)
    trainer_class = fairlead.DPOTrainer if spec["contender"] in FAIRLEAD else DPOTrainer
    more: dict[str, Any] = {}
    if spec["contender"] in FAIRLEAD:
        more = {"batch_by": "row" if case else "prompt", "tokens_at_once": spec.get("tokens_at_once")}
    folder = Path(spec["folder"])

    def trainer_of(rows: list[dict[str, str]], name: str) -> Any:
        args = DPOConfig(
            output_dir=str(folder / name),
            per_device_train_batch_size=min(BATCH, len(rows)) if case else len(rows),
            max_length=MAX_LENGTH if case else None,
            bf16=spec["bf16"],
            use_cpu=not cuda,
            num_train_epochs=1,
            save_strategy="no",
            report_to="none",
            logging_steps=1,
            disable_tqdm=True,
            dataloader_pin_memory=cuda,
            **CONTENDERS[spec["contender"]],
        )
        cache = {"reference_cache": folder / f"{name}.sqlite", **more} if trainer_class is not DPOTrainer else {}
        dataset = Dataset.from_list(rows)
        return trainer_class(model=policy, args=args, train_dataset=dataset, processing_class=tokenizer, **cache)

    warm = trainer_of(pairs[:2], "warm")
    warm.train()
    policy.delete_adapter("ref") if "ref" in policy.peft_config else None
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    before = product_peak(spec["bf16"])
    started = time.perf_counter()
    trainer = trainer_of(pairs, "timed")
    trainer.train()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = peak_memory()
    logs = [row for row in trainer.state.log_history if "loss" in row]
    return {
        "seconds": seconds,
        "pairs": len(trainer.train_dataset),
        "tokens": trainer.state.num_input_tokens_seen or logs[-1]["num_tokens"],
        "peak_gib": peak,
        "loss": statistics.fmean(row["loss"] for row in logs),
        "grad_norm": statistics.fmean(row["grad_norm"] for row in logs),
        "once_more": once_more(trainer) if spec.get("once_more") else None,
        "flops": executed_flops(trainer) if spec.get("flops") else None,
        "profile": profile_of(trainer) if spec.get("profile") else None,
        "counts": counts_of(trainer) if spec.get("profile") else None,
        "product_peak": max(before, product_peak(spec["bf16"])),
    }


def reference_and_steps(trainer: Any) -> None:
    """The reference pass, the forward and the backward of all rows, in the batches of the training."""
    size = trainer.args.per_device_train_batch_size
    rows = [trainer.train_dataset[i] for i in range(len(trainer.train_dataset))]
    for start in range(0, len(rows), size):
        batch = trainer._prepare_inputs(trainer.data_collator(rows[start : start + size]))
        trainer.compute_ref_log_probs(trainer.model, batch)
        trainer.training_step(trainer.model, batch)


def once_more(trainer: Any) -> float:
    """Seconds of the reference pass and the steps alone, without what a training sets up once."""
    import torch

    started = time.perf_counter()
    reference_and_steps(trainer)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def executed_flops(trainer: Any) -> float:
    """Matrix-product operations of the reference pass and the steps; of causal attention the half that is computed.

    PyTorch's counter does not know the CPU's attention nor products in place, so they are added to its table.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    def causal_half(counted: int, causal: bool) -> int:
        return counted // 2 if causal else counted

    def forward(q: Any, k: Any, v: Any, _dropout: float = 0.0, causal: bool = False, **_: Any) -> int:
        return causal_half(sdpa_flop_count(q, k, v), causal)

    def backward(flow: Any, q: Any, k: Any, v: Any, _out: Any, _log_z: Any, _: float, causal: bool, **__: Any) -> int:
        return causal_half(sdpa_backward_flop_count(flow, q, k, v), causal)

    def product(_into: Any, a: Any, b: Any, **_: Any) -> int:
        return 2 * a[0] * a[1] * b[1]

    more = {
        torch.ops.aten.addmm_: product,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: forward,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    with FlopCounterMode(display=False, custom_mapping=more) as counter:
        reference_and_steps(trainer)
    return float(counter.get_total_flops())


def counts_of(trainer: Any) -> dict[str, int]:
    """Tokens of the first batch: as TRL pads them, without the padding, and as Fairlead computes them."""
    from fairlead.training.shared_prefix.layout import build_layout

    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(trainer.args.per_device_train_batch_size)])
    ids, mask = batch["input_ids"], batch["attention_mask"]
    labels = ids.masked_fill(batch["completion_mask"] == 0, -100)
    computed = build_layout(ids, mask, labels).input_ids.numel()
    return {"padded": ids.numel(), "without padding": int(mask.sum()), "computed": computed}


def profile_of(trainer: Any) -> dict[str, float]:
    """Share of each operation in the time of a reference pass and the steps, the largest first."""
    from torch.profiler import profile

    with profile() as profiled:
        reference_and_steps(trainer)
    return largest_shares(profiled, 12)


# The table


def run(**spec: Any) -> dict[str, Any] | None:
    """One measurement in a process of its own; None where memory does not suffice."""
    with tempfile.TemporaryDirectory() as folder:
        return run_apart(__file__, "--one", json.dumps({**spec, "folder": folder}))


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
    peaks = {name: product_peak(bf16) for name, bf16 in (("float32", False), ("bfloat16", True))}
    precision = max(peaks, key=lambda name: peaks[name]) if options.precision == "fastest" else options.precision
    bf16 = precision == "bfloat16"
    print(f"{platform.machine()}, {os.cpu_count()} cores; matrix products: "
          + ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in peaks.items())
          + f"; both train in {precision}", flush=True)  # fmt: skip
    if options.profile:
        spec = {"case": options.profile, "shape": options.shape, "pairs": options.pairs, "bf16": bf16}
        show_profile(options.contender, **spec, tokens_at_once=options.tokens_at_once)
        return
    result: dict[str, Any] = {"peaks": peaks, "bf16": bf16, "shape": options.shape, "cases": [], "scaling": []}
    for case in options.cases:
        result["cases"].append(compare(case, options.shape, options.pairs, options.rounds, bf16))
        write_json(OUT, result)  # a case takes long; what is measured stays when a later one is stopped
    if not options.no_scaling:
        result["scaling"] = scaling(bf16, "20m" if options.shape == "135m" else options.shape)
        write_json(OUT, result)


if __name__ == "__main__":
    main()
