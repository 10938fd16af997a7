"""The way by hand, as the documentation of TRL and transformers shows it, with the best settings that were found.

Each stage is `(spec, work) -> what it tells`. Weights and adapters lie in folders; the rows are those of the project.
A model that answers has its adapter merged, as PEFT advises for inference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks.apart import TRL
from benchmarks.sft import TRL as TRL_SFT
from benchmarks.way.work import LORA, TARGETS, Work
from fairlead.checks import build_check
from fairlead.config.project import load_config
from fairlead.files import read_jsonl, write_jsonl
from fairlead.pipeline import datasets

BATCH_SIZES = (16, 32, 64, 128)  # rows of `generate`, of which the fastest is taken
TRIED = 24  # prompts on which it is


def best_sft(spec: dict[str, Any], work: Work) -> dict[str, Any]:
    """The fastest of TRL's settings, on three batches each; one that runs out of memory is none."""
    rows = _rows(spec, "sft")[: 3 * work.batch_size]
    seconds = {name: _timed(lambda name=name: _sft(spec, work, rows, TRL_SFT[name], None)) for name in TRL_SFT}
    return _fastest(seconds)


def sft(spec: dict[str, Any], work: Work) -> dict[str, Any]:
    trainer = _sft(spec, work, _rows(spec, "sft"), TRL_SFT[spec["settings"]], Path(spec["out"]) / "sft")
    return {"rows": len(trainer.train_dataset), "losses": _losses(trainer)}


def best_batch_size(spec: dict[str, Any], work: Work) -> dict[str, Any]:
    """The fastest number of rows for `generate`, on the first prompts."""
    model, tokenizer = _merged(spec, "sft")
    prompts = [row["prompt"] for row in _rows(spec, "prompts")[:TRIED]]
    seconds = {
        size: _timed(lambda size=size: _generate(model, tokenizer, prompts, work, size, work.completions))
        for size in BATCH_SIZES
    }
    return _fastest(seconds)


def sample(spec: dict[str, Any], work: Work) -> dict[str, Any]:
    """Completions of the SFT model, sorted by the length of their prompts."""
    model, tokenizer = _merged(spec, "sft")
    rows = _rows(spec, "prompts")
    texts = _generate(model, tokenizer, [row["prompt"] for row in rows], work, spec["settings"], work.completions)
    write_jsonl(
        Path(spec["out"]) / "completions.jsonl",
        ({**row, "completions": several} for row, several in zip(rows, texts, strict=True)),
    )
    return {"completions": sum(map(len, texts)), **_lengths(tokenizer, texts)}


def pairs(spec: dict[str, Any], work: Work) -> dict[str, Any]:
    """The best and the worst completion of each prompt by the project's own checks."""
    del work
    checks = [(build_check(check, Path(spec["project"])), check.weight) for check in _checks(spec)]
    made = 0
    for _, row in read_jsonl(Path(spec["out"]) / "completions.jsonl"):
        scores = [
            sum(weight * (check(text, row["gold"]) or 0.0) for check, weight in checks) for text in row["completions"]
        ]
        made += any(first != second for first, second in combinations(scores, 2))
    return {"pairs": made}


def best_dpo(spec: dict[str, Any], work: Work) -> dict[str, Any]:
    """The fastest of TRL's settings, on two batches each."""
    rows = _pairs(spec)[: 2 * work.batch_size]
    return _fastest({name: _timed(lambda name=name: _dpo(spec, work, rows, TRL[name], None)) for name in TRL})


def dpo(spec: dict[str, Any], work: Work) -> dict[str, Any]:
    """On the pairs that the project made, so that both train on the same."""
    trainer = _dpo(spec, work, _pairs(spec), TRL[spec["settings"]], Path(spec["out"]) / "dpo")
    return {"pairs": len(trainer.train_dataset), "losses": _losses(trainer)}


def answers(spec: dict[str, Any], work: Work) -> dict[str, Any]:
    """Greedy answers of base, SFT and DPO, one model after the other."""
    prompts = [row["prompt"] for row in _rows(spec, "eval")]
    texts: list[list[str]] = []
    for adapter in (None, "sft", "dpo"):
        model, tokenizer = _merged(spec, adapter)
        texts += _generate(model, tokenizer, prompts, work, spec["settings"], None)
    return {"answers": len(texts), **_lengths(tokenizer, texts)}


STAGES: dict[str, Callable[[dict[str, Any], Work], dict[str, Any]]] = {
    "best_sft": best_sft,
    "sft": sft,
    "best_batch_size": best_batch_size,
    "sample": sample,
    "pairs": pairs,
    "best_dpo": best_dpo,
    "dpo": dpo,
    "answers": answers,
}


# Training


def _sft(spec: dict[str, Any], work: Work, rows: list[dict[str, Any]], more: dict[str, Any], out: Path | None) -> Any:
    model, tokenizer = _base(spec)
    torch.manual_seed(work.seed)
    lora = LoraConfig(
        r=LORA["r"], lora_alpha=LORA["alpha"], lora_dropout=LORA["dropout"], target_modules=TARGETS,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    said = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["answer"]}],
        }
        for row in rows
    ]
    settings = {**_common(spec, work), "learning_rate": work.sft_rate, "num_train_epochs": work.epochs, **more}
    trainer = SFTTrainer(
        model=get_peft_model(model, lora),
        args=SFTConfig(output_dir=str(Path(spec["out"]) / "trainer"), **settings),
        train_dataset=Dataset.from_list(said),
        processing_class=tokenizer,
    )
    trainer.train()
    if out is not None:
        trainer.model.save_pretrained(str(out))
    return trainer


def _dpo(spec: dict[str, Any], work: Work, rows: list[dict[str, Any]], more: dict[str, Any], out: Path | None) -> Any:
    """From the SFT adapter, of which TRL keeps a copy as the reference."""
    model, tokenizer = _base(spec)
    policy = PeftModel.from_pretrained(model, str(Path(spec["out"]) / "sft"), is_trainable=True)
    said = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in rows
    ]
    settings = {**_common(spec, work), "learning_rate": work.dpo_rate, "beta": work.beta, **more}
    trainer = DPOTrainer(
        model=policy,
        args=DPOConfig(output_dir=str(Path(spec["out"]) / "trainer"), num_train_epochs=1, **settings),
        train_dataset=Dataset.from_list(said),
        processing_class=tokenizer,
    )
    trainer.train()
    if out is not None:
        trainer.model.save_pretrained(str(out), selected_adapters=["default"])
    return trainer


def _common(spec: dict[str, Any], work: Work) -> dict[str, Any]:
    return {
        "per_device_train_batch_size": work.batch_size,
        "max_length": work.max_length,
        "bf16": spec["dtype"] == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "disable_tqdm": True,
        "seed": work.seed,
    }


# Answering


@torch.inference_mode()
def _generate(
    model: Any, tokenizer: Any, prompts: Sequence[str], work: Work, batch_size: int, completions: int | None
) -> list[list[str]]:
    """Texts of each prompt, in the order of the prompts.

    Args:
        batch_size: rows at once.
        completions: sampled of each prompt; None answers once and greedily.
    """
    drawn: dict[str, Any] = {"do_sample": False}
    if completions is not None:
        drawn = {
            "do_sample": True, "temperature": work.temperature, "top_k": 0, "top_p": 1.0,
            "num_return_sequences": completions,
        }  # fmt: skip
    ids = [
        tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False)
        for prompt in prompts
    ]
    order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
    texts: list[list[str]] = [[] for _ in ids]
    at_once = max(1, batch_size // (completions or 1))
    for start in range(0, len(order), at_once):
        part = order[start : start + at_once]
        inputs = tokenizer(
            [ids[n] for n in part], padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False
        ).to(model.device)
        said = model.generate(
            **inputs, max_new_tokens=work.max_new_tokens, pad_token_id=tokenizer.pad_token_id, **drawn
        )
        decoded = tokenizer.batch_decode(said[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for place, n in enumerate(part):
            texts[n] = decoded[place * (completions or 1) : (place + 1) * (completions or 1)]
    return texts


def _merged(spec: dict[str, Any], adapter: str | None) -> tuple[Any, Any]:
    model, tokenizer = _base(spec)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(Path(spec["out"]) / adapter)).merge_and_unload()
    return model.eval(), tokenizer


def _base(spec: dict[str, Any]) -> tuple[Any, Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(spec["weights"], dtype=getattr(torch, spec["dtype"])).to(device)
    tokenizer = AutoTokenizer.from_pretrained(spec["weights"])
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


# Rows and figures


def _rows(spec: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(Path(spec["project"]) / "data" / f"{name}.jsonl")]


def _pairs(spec: dict[str, Any]) -> list[dict[str, Any]]:
    pairs = datasets.preferences(Path(spec["pairs"]))
    return [{"prompt": pair.prompt.text, "chosen": pair.chosen, "rejected": pair.rejected} for pair in pairs]


def _checks(spec: dict[str, Any]) -> list[Any]:
    judge = load_config(Path(spec["project"])).judge
    assert judge is not None
    assert judge.kind == "rubric"
    return judge.checks


def _timed(run: Callable[[], Any]) -> float | None:
    """Seconds of a run; None where memory does not suffice."""
    started = time.perf_counter()
    try:
        run()
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if "memory" not in str(error):
            raise
        return None
    return time.perf_counter() - started


def _fastest(seconds: dict[Any, float | None]) -> dict[str, Any]:
    known = {name: value for name, value in seconds.items() if value is not None}
    return {"best": min(known, key=lambda name: known[name]), "seconds": {str(key): v for key, v in seconds.items()}}


def _losses(trainer: Any) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def _lengths(tokenizer: Any, texts: Sequence[Sequence[str]]) -> dict[str, int]:
    said = [text for several in texts for text in several]
    return {"new_tokens": sum(map(len, tokenizer(said, add_special_tokens=False)["input_ids"])) if said else 0}
