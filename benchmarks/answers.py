"""Base, SFT and DPO answer the same prompts: one pass against three separate loads and runs; writes out/answers.json.

Both ways read the same folders (base model, tokenizer, two LoRA adapters), sort by length, use the key-value cache and
the same number of rows at once. Three separate runs load each view anew and use transformers' own `generate`. Times
include loading. The texts of both must be equal.

The model is a random Phi (its head has a bias): the end token's bias makes answers end after about 60 tokens, and the
limit is 160. In a batch of 32 the longest answer is then 2 to 3 times the mean, as it is in real answers (2.2 and 2.9
in the two parts of dpo_en_demo.json, 2.4 and 2.7 in AlpacaEval's claude-2.1 and vicuna-7b). Prompts are those of the
one-turn rows of dpo_en_demo.json.

Run: python -m benchmarks.answers [--shape 135m] [--prompts 48] [--rounds 2]
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PhiConfig, PhiForCausalLM
from transformers.utils.logging import disable_progress_bar

from benchmarks import OUT
from benchmarks.dpo.rows import DATA, SHAPES, rows_of, tokenizer_of
from fairlead.config.model import ModelSection
from fairlead.files import write_json
from fairlead.models.adapters import ModelName, ModelVariant, VariantLoader
from fairlead.models.batch_generate import generate_in_batches
from fairlead.models.continuous_batching import DecodeRequest
from fairlead.models.generation import (
    CompletionRequest,
    LocalGenerator,
    encode,
    eos_token_ids,
    pad_token_id,
    row_seed,
)
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.records import Prompt, Sampling

FIGURES = OUT / "answers.json"
SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=160)
MEAN_TOKENS = 60
Answer = tuple[str, int]
"""Text and number of tokens."""
SEED = 0


def make_models(folder: Path, shape: str) -> dict[ModelName, ModelVariant]:
    """A random base with its tokenizer, and two adapters that change its answers."""
    tokenizer = tokenizer_of("b")
    torch.manual_seed(0)
    size = {**SHAPES[shape], "vocab_size": len(tokenizer)}
    config = PhiConfig(**size, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    model = PhiForCausalLM(config)
    with torch.no_grad():
        model.lm_head.bias[config.eos_token_id] = math.log(len(tokenizer) / MEAN_TOKENS)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    lora = LoraConfig(
        r=16,
        lora_alpha=32,
        target_modules=["q_proj", "k_proj", "v_proj", "dense"],
        task_type="CAUSAL_LM",
        init_lora_weights="gaussian",
    )
    views: dict[ModelName, ModelVariant] = {"base": ModelVariant()}
    names: tuple[ModelName, ...] = ("sft", "dpo")
    for name in names:
        base = PhiForCausalLM.from_pretrained(folder / "base")
        policy = get_peft_model(base, lora)
        for key, weight in policy.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(weight, std=0.02)
        policy.save_pretrained(str(folder / name))
        views[name] = ModelVariant(adapter=folder / name)
    return views


def one_pass(folder: Path, views: dict[ModelName, ModelVariant], prompts: list[Prompt], width: int) -> list[Answer]:
    host = VariantLoader(ModelSection(name=str(folder / "base")), folder, views)
    requests = [CompletionRequest(prompt, SAMPLING, model=name) for name in views for prompt in prompts]
    answers = LocalGenerator(host, batch_size=width).generate(requests, seed=SEED)
    return [(answer.text, answer.tokens) for answer in answers]


def three_runs(folder: Path, views: dict[ModelName, ModelVariant], prompts: list[Prompt], width: int) -> list[Answer]:
    section = ModelSection(name=str(folder / "base"))
    requests = [CompletionRequest(prompt, SAMPLING) for prompt in prompts]
    answers: list[Answer] = []
    for view in views.values():
        model: Any = load_base(section, folder)
        if view.adapter is not None:
            model = load_adapter(model, view.adapter).eval()
        tokenizer = load_tokenizer(section, folder)
        rows = [DecodeRequest(encode(r, model, tokenizer), SAMPLING, row_seed(SEED, r)) for r in requests]
        ids = {"eos_ids": eos_token_ids(model, tokenizer), "pad_id": pad_token_id(tokenizer)}
        for tokens in generate_in_batches(model, rows, batch_size=width, **ids):
            answers.append((tokenizer.decode(tokens, skip_special_tokens=True), len(tokens)))
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="20m", choices=SHAPES)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--width", type=int, default=32, help="rows decoded at once")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    disable_progress_bar()
    if not DATA.is_dir():
        print(f"real data is not here: {DATA} does not exist")
        return
    prompts = [Prompt.of(row["prompt"]) for row in islice(rows_of("b"), options.prompts)]
    ways = {"one pass": one_pass, "three runs": three_runs}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    texts: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        views = make_models(folder, options.shape)
        one_pass(folder, views, prompts[:2], options.width)  # warms up
        for _ in range(options.rounds):
            for way, run in ways.items():
                started = time.perf_counter()
                answers = run(folder, views, prompts, options.width)
                seconds[way].append(time.perf_counter() - started)
                texts[way] = [text for text, _ in answers]
    lengths = [tokens for _, tokens in answers]
    median = {way: statistics.median(times) for way, times in seconds.items()}
    same = sum(a == b for a, b in zip(texts["one pass"], texts["three runs"], strict=True))
    figures = {
        "shape": options.shape,
        "answers": len(lengths),
        "mean_tokens": statistics.mean(lengths),
        "longest_over_mean": max(lengths) / statistics.mean(lengths),
        "seconds": seconds,
        "tokens_per_second": {way: sum(lengths) / time for way, time in median.items()},
        "ratio": median["three runs"] / median["one pass"],
        "same_text": same,
    }
    write_json(FIGURES, figures)
    for way, time_ in median.items():
        print(f"{way}: {time_:.1f} s, {sum(lengths) / time_:.0f} tokens/s")
    print(
        f"ratio {figures['ratio']:.2f}; {same} of {len(lengths)} texts are equal; "
        f"answers of {figures['mean_tokens']:.0f} tokens "
        f"on average, the longest {figures['longest_over_mean']:.1f} times that"
    )


if __name__ == "__main__":
    main()
