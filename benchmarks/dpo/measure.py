"""One measurement of a DPO training, in a process of its own."""

from __future__ import annotations

import statistics
import time
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.apart import FAIRLEAD, TRL, largest_shares, limit_memory, peak_memory, product_peak
from benchmarks.dpo.rows import SHAPES, rows_of, synthetic, tokenizer_of, word_tokenizer

CONTENDERS: dict[str, dict[str, bool]] = {**FAIRLEAD, **TRL}
BATCH = 8
MAX_LENGTH = 1024
ROOM = 128  # tokens that a prompt leaves for its answers; both would drop a pair that is cut away


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
