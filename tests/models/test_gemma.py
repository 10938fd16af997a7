"""On the weights of Gemma 3 270M: windows of 512 tokens, a vocabulary of 262,144; `make test-gemma` installs it.

In float32, where log-probabilities agree to 1e-4 and gradients to a relative 1e-4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fairlead.config.model import ModelSection
from fairlead.models.batch_generate import generate_in_batches
from fairlead.models.continuous_batching import DecodeRequest, decode, supports_continuous_batching
from fairlead.models.loading import load_base, load_tokenizer
from fairlead.records import Sampling
from tests.support.twins import answers, assert_same, padded, twins_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WINDOW = 512
TOKENS = 8
REPORT = "Report {}: the disk of the database is full, the service answers slowly, and nobody knows why. "


def load(gemma3: Path) -> Any:
    return load_base(ModelSection(name=str(gemma3), dtype="float32"), gemma3)


@pytest.fixture(scope="module")
def tokenizer(gemma3: Path) -> Any:
    return load_tokenizer(ModelSection(name=str(gemma3)), gemma3)


def long_prompt(tokenizer: Any, end: str) -> list[int]:
    """A prompt of more tokens than the window; all begin alike."""
    ids = tokenizer("".join(REPORT.format(number) for number in range(25)) + end)["input_ids"]
    assert WINDOW < len(ids) < WINDOW + 200
    return list(ids)


def test_texts_become_the_tokens_of_the_published_tokenizer(tokenizer: Any) -> None:
    """The file lists no merges; the numbers are those that Gemma's own tokenizer gives."""
    assert tokenizer("What is the capital of France?")["input_ids"] == [2, 3689, 563, 506, 5279, 529, 7001, 236881]
    assert tokenizer("<start_of_turn>user\n\n")["input_ids"] == [2, 105, 2364, 108]
    assert len(tokenizer) == 262144
    text = "In  2024:\n\n    12 Küsse — 😀"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_the_config_is_that_of_the_published_model(gemma3: Path) -> None:
    """What the file leaves out (every sixth layer sees all tokens, rotary base of the others) is as published."""
    config = load(gemma3).config
    assert [n for n, kind in enumerate(config.layer_types) if kind == "full_attention"] == [5, 11, 17]
    assert config.sliding_window == WINDOW
    assert config.query_pre_attn_scalar == config.head_dim == 256
    bases = {kind: config.rope_parameters[kind]["rope_theta"] for kind in ("full_attention", "sliding_attention")}
    assert bases == {"full_attention": 1e6, "sliding_attention": 1e4}
    assert config.tie_word_embeddings


def test_the_engine_says_token_by_token_what_generate_says(gemma3: Path, tokenizer: Any) -> None:
    model = load(gemma3)
    assert supports_continuous_batching(model)
    france = tokenizer("Question: What is the capital of France?\nAnswer:")["input_ids"]
    prompts = [france, long_prompt(tokenizer, "The cause is"), long_prompt(tokenizer, "Report 25: the")]
    eos = {tokenizer.eos_token_id}
    for sampling in (Sampling(0.0, 1.0, TOKENS), Sampling(1.0, 0.95, TOKENS)):
        requests = [DecodeRequest(prompt, sampling, seed) for seed, prompt in enumerate([*prompts, prompts[1]])]
        ours = decode(model, requests, batch_size=2, eos_ids=eos, pad_id=0)
        assert ours == generate_in_batches(model, requests, batch_size=1, eos_ids=eos, pad_id=0)
        if sampling.temperature == 0:
            assert tokenizer.decode(ours[0]).startswith(" Paris")


def test_the_packed_forward_is_trl_s_before_and_after_an_optimiser_step(gemma3: Path, tokenizer: Any) -> None:
    """Rows longer than the window that share a prompt, beside a short one.

    After the step both take the same weights: two steps that differ by rounding leave weights that differ by a
    billionth of their norm, and of that Gemma's third layer makes 3e-4 in a gradient, whichever forward computes it.
    """
    ours, theirs, _ = twins_of(load(gemma3))
    start = long_prompt(tokenizer, "The cause is")
    replies = [tokenizer(text)["input_ids"][1:] for text in (" a full disk.", " that nobody cleans the logs up.")]
    other = tokenizer("The capital of France is")["input_ids"], tokenizer(" Paris.")["input_ids"][1:]
    inputs = padded([*((start, reply) for reply in replies), other])
    before = answers(ours, theirs, inputs)
    assert_same(ours, theirs, before)
    for one in (ours, theirs):
        optimizer = torch.optim.SGD(one.parameters(), lr=1e-6)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert float((mine - their).norm() / their.norm()) < 1e-7
            mine.copy_(their)
    after = answers(ours, theirs, inputs)
    assert_same(ours, theirs, after)
    assert (after[1].log_probs - before[1].log_probs).abs().max().item() > 1e-2, "the step must change something"
