"""The engine on models with sliding windows or chunks: their cache is kept whole, the mask alone limits the view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf

from fairlead.models.batch_generate import generate_in_batches
from fairlead.models.continuous_batching import DecodeRequest, decode, why_unsupported
from fairlead.records import Sampling

WINDOW = 5
SHAPE: dict[str, Any] = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": WINDOW}
SHAPE |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.3}
MIXED: dict[str, Any] = {**SHAPE, "layer_types": ["sliding_attention", "full_attention"]}
CHUNKS: dict[str, Any] = {**SHAPE, "attention_chunk_size": WINDOW, "intermediate_size_mlp": 48, "num_local_experts": 2}

MODELS: dict[str, Callable[[], hf.PreTrainedConfig]] = {
    "mistral": lambda: hf.MistralConfig(**SHAPE),
    "qwen2": lambda: hf.Qwen2Config(**SHAPE, use_sliding_window=True, max_window_layers=1),
    "gemma2": lambda: hf.Gemma2Config(**MIXED, query_pre_attn_scalar=8),
    "gemma3": lambda: hf.Gemma3TextConfig(**MIXED, query_pre_attn_scalar=8),
    "gpt_oss": lambda: hf.GptOssConfig(**MIXED, num_local_experts=2, num_experts_per_tok=1),
    "cohere2": lambda: hf.Cohere2Config(**MIXED),
    "gemma4": lambda: hf.Gemma4TextConfig(
        **MIXED, global_head_dim=16, hidden_size_per_layer_input=8, vocab_size_per_layer_input=97
    ),
    "olmo3": lambda: hf.Olmo3Config(**MIXED),
    "llama4": lambda: hf.Llama4TextConfig(**CHUNKS, layer_types=["chunked_attention", "full_attention"]),
}


def build(config: hf.PreTrainedConfig, attention: str | None = None) -> Any:
    torch.manual_seed(0)
    return hf.AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def requests(sampling: Callable[[int], Sampling]) -> list[DecodeRequest]:
    """Prompts of 1 to 14 tokens, two of them asked three times; answers of up to 17 tokens, over three windows."""
    draw = torch.Generator().manual_seed(1)
    prompts = [torch.randint(3, 97, (length,), generator=draw).tolist() for length in (1, 14, 4, 9, 5, 13, 3)]
    asked = [*prompts, prompts[1], prompts[2], prompts[1], prompts[2]]
    return [DecodeRequest(prompt, sampling(3 + number * 5 % 15), seed=number) for number, prompt in enumerate(asked)]


@pytest.mark.parametrize("family", MODELS)
def test_rows_longer_than_the_window_are_those_of_generate(family: str) -> None:
    model = build(MODELS[family]())
    assert why_unsupported(model) is None
    for sampling in (lambda tokens: Sampling(0.0, 1.0, tokens), lambda tokens: Sampling(1.0, 1.0, tokens)):
        rows = requests(sampling)
        ours = decode(model, rows, batch_size=3, eos_ids={2}, pad_id=0)
        assert ours == generate_in_batches(model, rows, batch_size=1, eos_ids={2}, pad_id=0)


def test_the_same_with_attention_that_is_computed_plainly() -> None:
    model, rows = build(MODELS["gemma3"](), "eager"), requests(lambda tokens: Sampling(1.0, 1.0, tokens))
    ours = decode(model, rows, batch_size=4, eos_ids={2}, pad_id=0)
    assert ours == generate_in_batches(model, rows, batch_size=1, eos_ids={2}, pad_id=0)


def test_the_window_matters_to_these_rows() -> None:
    """Else the tests above could not fail."""
    rows = requests(lambda tokens: Sampling(1.0, 1.0, tokens))
    narrow, wide = (build(hf.MistralConfig(**{**SHAPE, "sliding_window": window})) for window in (WINDOW, 64))
    said = [decode(model, rows, batch_size=3, eos_ids={2}, pad_id=0) for model in (narrow, wide)]
    differ = [a != b for a, b in zip(*said, strict=True)]
    assert sum(differ) >= len(rows) // 2
