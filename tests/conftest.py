"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

# No test may reach a hub; code that tries gets a clear offline error at once instead of a time-out.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real data is not here: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a randomly initialised two-layer Llama and its own tokenizer, without a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["the disk of the database is full", "severity: high | service: db"], trainer=trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "fairlead.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def tiny_config() -> dict[str, Any]:
    """A config that runs every stage in seconds: random weights, length as the thing preferred."""
    return {
        "name": "tiny",
        "model": {"name": "model"},
        "data": {"sft": "sft.jsonl", "prompts": "prompts.jsonl", "eval": "eval.jsonl"},
        "decide": {"waive": "random weights have nothing to decide"},
        "data_check": {"waive": {"truncated": "random weights do not end their answers"}},
        "lora": {"r": 4, "alpha": 8},
        "sft": {"epochs": 2, "batch_size": 4, "log_every": 1, "eval_every": 4, "save_every": 2, "learning_rate": 1e-3},
        "sample": {"max_new_tokens": 8, "batch_size": 8},
        "judge": {"kind": "rubric", "checks": [{"kind": "function", "name": "short", "function": "checks.py:short"}]},
        "dpo": {"batch_size": 4, "log_every": 1, "eval_every": 2, "save_every": 2, "learning_rate": 1e-3},
        "answers": {"max_new_tokens": 8, "batch_size": 8},
        "eval": {"metrics": [{"kind": "length", "name": "length", "max_words": 3}]},
        "gate": {"criteria": [{"figure": "leaks", "at_most": 0}], "min_prompts": 5},
    }


@pytest.fixture
def tiny_project(tmp_path: Path, tiny_model: Path) -> Path:
    """A project folder on which `fairlead run` takes seconds."""
    import json

    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copytree(tiny_model, folder / "model")

    def rows(name: str, count: int, **extra: Any) -> None:
        lines = [json.dumps({"prompt": f"{name} report number {n} of the disk", **extra}) for n in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    rows("sft", 16, answer="severity: high")
    rows("prompts", 16)
    rows("eval", 8)
    (folder / "checks.py").write_text("def short(answer, gold):\n    return 1 / (1 + len(answer))\n", encoding="utf-8")
    write_config(folder, tiny_config())
    return folder
