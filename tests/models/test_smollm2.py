"""On the weights of a real chat model: its tokens, its answers, and the packed forward against TRL's.

In float32, where log-probabilities agree to 1e-4 and gradients to a relative 1e-4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fairlead.config.model import ModelSection
from fairlead.models.batch_generate import generate_in_batches
from fairlead.models.chat import conversation_tokens, prompt_tokens
from fairlead.models.continuous_batching import DecodeRequest, decode, supports_continuous_batching
from fairlead.models.generation import CompletionRequest, draw_tokens
from fairlead.models.loading import load_base, load_tokenizer
from fairlead.records import Prompt, Sampling
from tests.support.twins import answers, assert_same, padded, twins_of

QUESTIONS = (
    "What is the capital of France?",
    "Name three colours.",
    "Write the number 2024 in words, and nothing else. Do not explain what you do.",
)
TOKENS = 8


def load(smollm2: Path) -> Any:
    return load_base(ModelSection(name=str(smollm2), dtype="float32"), smollm2)


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Any:
    return load_tokenizer(ModelSection(name=str(smollm2)), smollm2)


def test_a_conversation_is_what_the_model_was_trained_on(tokenizer: Any) -> None:
    """No token before the template's own, and the end of the turn is the end of the answer."""
    prompt = Prompt.of("Hi")
    ids = prompt_tokens(prompt, tokenizer)
    assert tokenizer.decode(ids) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert ids[0] == tokenizer.bos_token_id == 1
    answered = conversation_tokens(prompt, "Yes", tokenizer)
    assert answered[: len(ids)] == ids
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 2
    assert answered[len(ids) + 1] == 2
    assert len(tokenizer) == tokenizer.vocab_size == 49152
    text = "In  2024:\n\n    12 Küsse — 😀"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.tokenize("  2024") == ["ĠĠ", "2", "0", "2", "4"]


@pytest.mark.slow
def test_the_engine_says_token_by_token_what_generate_says(smollm2: Path, tokenizer: Any) -> None:
    model = load(smollm2)
    assert supports_continuous_batching(model)
    requests = [CompletionRequest(Prompt.of(question), Sampling(0.0, 1.0, TOKENS)) for question in QUESTIONS]
    drawn = draw_tokens(model, tokenizer, requests, seed=0, batch_size=2)
    for request, (_, tokens) in zip(requests, drawn, strict=True):
        ids = torch.tensor([prompt_tokens(request.prompt, tokenizer)])
        with torch.inference_mode():
            said = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=TOKENS)
        assert tokens == said[0, ids.shape[1] :].tolist(), request.prompt.text
    assert tokenizer.decode(drawn[0][1]) == "The capital of France is Paris.<|im_end|>"
    rows = [
        DecodeRequest(prompt_tokens(request.prompt, tokenizer), Sampling(1.0, 0.95, TOKENS), seed)
        for seed, request in enumerate(requests)
    ]
    eos = {tokenizer.eos_token_id}
    assert decode(model, rows, batch_size=2, eos_ids=eos, pad_id=0) == generate_in_batches(
        model, rows, batch_size=1, eos_ids=eos, pad_id=0
    ), "sampled"


@pytest.mark.slow
def test_the_packed_forward_is_trl_s_before_and_after_an_optimiser_step(smollm2: Path, tokenizer: Any) -> None:
    ours, theirs, _ = twins_of(load(smollm2))
    prompts = [Prompt.of(question) for question in QUESTIONS[:2]]
    rows = []
    for prompt, replies in zip(prompts, (("Paris.", "It is Lyon, I think."), ("Red, green, blue.",)), strict=True):
        start = prompt_tokens(prompt, tokenizer)
        rows += [(start, conversation_tokens(prompt, reply, tokenizer)[len(start) :]) for reply in replies]
    inputs = padded(rows)
    before = answers(ours, theirs, inputs)
    assert_same(ours, theirs, before)
    for one in (ours, theirs):
        optimizer = torch.optim.AdamW(one.parameters(), lr=1e-5)
        optimizer.step()
        optimizer.zero_grad()
    after = answers(ours, theirs, inputs)
    assert_same(ours, theirs, after)
    assert (after[1].log_probs - before[1].log_probs).abs().max().item() > 1e-2, "the step must change something"
