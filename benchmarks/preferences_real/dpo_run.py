"""One DPO training on a file of pairs, by Fairlead's trainer or by TRL's own, and what models say of held-out pairs.

Each is a process of its own (`apart.run_apart`): `python -m benchmarks.preferences_real.dpo_run train|score SPEC`, the
spec as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from trl import DPOConfig, DPOTrainer

import fairlead
from benchmarks.apart import limit_memory, peak_memory
from fairlead.config.model import ModelSection
from fairlead.config.training import LoraSection
from fairlead.models import hardware
from fairlead.models.chat import conversation_tokens, prompt_tokens
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.pipeline import datasets
from fairlead.records import Preference
from fairlead.training import hf_trainer
from fairlead.training.dpo import dataset
from fairlead.training.shared_prefix.forward import share_prefixes
from fairlead.training.trl_compat import add_log_prob_head, scored_log_probs

HERE = Path()  # models are named by hub id, package, or a path from here
BATCH = 8
LORA = LoraSection(dropout=0.0)  # TRL switches dropout off in DPO, so both train without it
TOKENS_AT_ONCE = 4096  # of held-out rows, before their common prompts are counted once


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Trains an adapter and saves it to `spec["out"]`; returns seconds, peak memory, and the loss of each step.

    The seconds run from the pairs to the last step: the reference pass is counted, loading the model is not.
    """
    on = hardware.device()
    if on.type == "cpu":
        limit_memory()
    torch.manual_seed(spec["seed"])  # the adapter is drawn before TRL seeds
    section = ModelSection(name=spec["model"], dtype=spec["dtype"])
    tokenizer, model = load_tokenizer(section, HERE), load_base(section, HERE)
    pairs = datasets.preferences(Path(spec["pairs"]))
    ours = spec["contender"] == "fairlead"
    args = DPOConfig(
        output_dir=spec["out"],
        loss_type=spec["loss_type"],
        label_smoothing=spec["label_smoothing"],
        learning_rate=spec["learning_rate"],
        beta=0.1,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        max_length=spec["max_length"],
        warmup_steps=0.1,
        seed=spec["seed"],
        bf16=spec["dtype"] == "bfloat16",
        use_cpu=on.type == "cpu",
        dataloader_pin_memory=on.type == "cuda",
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
        **spec["settings"],
    )
    more = {"reference_cache": Path(spec["reference_cache"]), "batch_by": spec["batch_by"]} if ours else {}
    started = time.perf_counter()
    trainer = (fairlead.DPOTrainer if ours else DPOTrainer)(
        model=model,
        args=args,
        train_dataset=dataset(pairs),
        processing_class=tokenizer,
        peft_config=hf_trainer.lora_config(LORA, model, spec["model"]),
        **more,
    )
    trainer.train()
    if on.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = peak_memory()
    trainer.model.save_pretrained(spec["out"], selected_adapters=["default"], save_embedding_layers=False)
    return {
        "seconds": seconds,
        "peak_gib": peak,
        "pairs": len(trainer.train_dataset),
        "loss": [row["loss"] for row in trainer.state.log_history if "loss" in row],
    }


def score(spec: dict[str, Any]) -> dict[str, Any]:
    """log p of both answers of every pair in `spec["pairs"]`, under the base and under each of `spec["adapters"]`.

    The weights are those of the training; `spec["compute"]` is the type that they are computed in.

    Returns:
        `tokens`: [chosen, rejected] of each pair, the end of the turn included; `base`, and `adapters` by name: [log p
        of chosen, of rejected] of each pair, in nats.
    """
    section = ModelSection(name=spec["model"], dtype=spec["dtype"])
    tokenizer, model = load_tokenizer(section, HERE), load_base(section, HERE).to(getattr(torch, spec["compute"]))
    pairs = datasets.preferences(Path(spec["pairs"]))
    add_log_prob_head(model)
    share_prefixes(model)
    tokens, base = pair_log_probs(model, tokenizer, pairs)
    of_adapters = {}
    policy: PeftModel | None = None
    for name, folder in spec["adapters"].items():
        policy = load_adapter(model, Path(folder), name="policy")
        _, of_adapters[name] = pair_log_probs(policy, tokenizer, pairs)
        policy = policy.unload()
    return {"tokens": tokens, "base": base, "adapters": of_adapters}


def pair_log_probs(
    model: Any, tokenizer: Any, pairs: Sequence[Preference]
) -> tuple[list[list[int]], list[list[float]]]:
    """([tokens of chosen, of rejected], [log p of chosen, of rejected]) of each pair; each answer is computed once."""
    prompts = {pair.prompt.id: prompt_tokens(pair.prompt, tokenizer) for pair in pairs}
    answers = {(pair.prompt.id, text): pair.prompt for pair in pairs for text in (pair.chosen, pair.rejected)}
    rows = {
        key: (
            tokens := conversation_tokens(prompt, key[1], tokenizer),
            [n >= len(prompts[key[0]]) for n in range(len(tokens))],
        )
        for key, prompt in answers.items()
    }
    counts = {key: sum(scored) for key, (_, scored) in rows.items()}
    sums: dict[tuple[str, str], float] = {}
    device = next(model.parameters()).device
    with torch.no_grad():
        for keys in _together(rows):
            values = scored_log_probs(model, [rows[key] for key in keys], pad_id=tokenizer.pad_token_id, device=device)
            sums |= {key: float(value.double().sum()) for key, value in zip(keys, values, strict=True)}
    sides = [[(pair.prompt.id, pair.chosen), (pair.prompt.id, pair.rejected)] for pair in pairs]
    return [[counts[key] for key in keys] for keys in sides], [[sums[key] for key in keys] for keys in sides]


def _together(rows: dict[Any, tuple[list[int], list[bool]]]) -> Iterator[list[Any]]:
    """Keys of rows in batches; answers of one prompt lie beside each other, and share it."""
    keys: list[Any] = []
    for key in sorted(rows):
        if keys and sum(len(rows[other][0]) for other in (*keys, key)) > TOKENS_AT_ONCE:
            yield keys
            keys = []
        keys.append(key)
    if keys:
        yield keys


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    what, spec = sys.argv[1], json.loads(sys.argv[2])
    with contextlib.redirect_stdout(sys.stderr):
        result = {"train": train, "score": score}[what](spec)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
