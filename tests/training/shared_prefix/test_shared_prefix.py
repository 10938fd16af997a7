"""The shared-prefix forward gives what TRL's padded forward gives, and computes every prompt once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
import transformers.integrations.sdpa_attention
import transformers.masking_utils
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import Tensor

from fairlead.training.shared_prefix.layout import build_layout
from tests.support.twins import _GROUPED, _WIDE, KNOWN, answers, assert_same, batch, padded, twins

UNKNOWN: dict[str, tuple[Callable[[], hf.PreTrainedConfig], str]] = {
    "mamba": (
        lambda: hf.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4),
        "does not use transformers' attention interface",
    ),
    "gemma3 both ways": (
        lambda: hf.Gemma3TextConfig(**_WIDE, query_pre_attn_scalar=8, use_bidirectional_attention=True),
        "it looks in both directions",
    ),
    "chunked llama": (
        lambda: hf.LlamaConfig(**_GROUPED, layer_types=["chunked_attention", "full_attention"]),
        "layers of the kind chunked_attention",
    ),
    "qwen3_next": (
        lambda: hf.Qwen3NextConfig(
            **_WIDE,
            linear_num_value_heads=2,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            layer_types=["linear_attention", "full_attention"],
        ),
        "does not use transformers' attention interface",
    ),
    "bloom": (
        lambda: hf.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4),
        "does not use transformers' attention interface",
    ),
    "doge": (
        lambda: hf.DogeConfig(**_GROUPED, attention_bias=False, keep_window_size=4),
        "makes a mask of its own",
    ),
}


@pytest.mark.parametrize(
    ("name", "attention"),
    [(name, how) for name in KNOWN for how in ("sdpa", "eager") if (name, how) != ("gemma2", "sdpa")],
)
def test_log_probabilities_and_gradients_are_those_of_the_padded_batch(name: str, attention: str) -> None:
    ours, theirs, packed = twins(KNOWN[name](), attention)
    outputs = answers(ours, theirs, batch())
    assert packed.reason is None
    assert_same(ours, theirs, outputs)


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_model_that_cannot_share_answers_as_trl_and_says_why_once(name: str, caplog: Any) -> None:
    config, reason = UNKNOWN[name]
    ours, theirs, packed = twins(config(), "eager")
    inputs = batch()
    for _ in range(2):
        mine, other = (m(**inputs, use_cache=False, fused_lm_head=True).log_probs for m in (ours, theirs))
        assert torch.equal(mine, other)
    assert reason in packed.reason
    assert sum("TRL's own forward" in record.message for record in caplog.records) == 1


def test_rows_beyond_a_window_that_attention_is_not_told_of_answer_as_trl(caplog: Any) -> None:
    def config(window: int) -> hf.PreTrainedConfig:
        return hf.PhimoeConfig(**_GROUPED, num_local_experts=2, num_experts_per_tok=1, sliding_window=window)

    for window, shared in ((6, False), (4096, True)):
        caplog.clear()
        ours, theirs, packed = twins(config(window), "sdpa")
        mine, other = (m(**batch(), use_cache=False, fused_lm_head=True).log_probs for m in (ours, theirs))
        assert torch.allclose(mine, other, atol=1e-4)
        assert packed.reason is None
        assert any("longer than the window of 6" in record.message for record in caplog.records) is not shared


def test_an_unknown_attention_falls_back() -> None:
    def local(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
        return hf.integrations.sdpa_attention.sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    hf.AttentionInterface.register("home_made", local)
    hf.AttentionMaskInterface.register("home_made", hf.masking_utils.sdpa_mask)
    ours, theirs, packed = twins(KNOWN["llama"](), "home_made")
    assert_same(ours, theirs, answers(ours, theirs, batch()))
    assert "home_made is not known" in packed.reason


def test_gradient_checkpointing_changes_nothing() -> None:
    ours, theirs, packed = twins(KNOWN["llama"](), "sdpa")
    ours.gradient_checkpointing_enable()
    ours.train(), theirs.train()
    assert_same(ours, theirs, answers(ours, theirs, batch()))
    assert packed.reason is None


def test_lora_inside_peft_shares_too() -> None:
    ours, theirs, packed = twins(KNOWN["qwen2"](), "sdpa")
    wrapped = []
    for model in (ours, theirs):
        torch.manual_seed(1)
        wrapped.append(get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)))
    assert_same(*wrapped, answers(*wrapped, batch()))
    assert packed.reason is None


def test_prompt_learning_falls_back(caplog: Any) -> None:
    ours, theirs, _ = twins(KNOWN["llama"](), "sdpa")
    wrapped = []
    for model in (ours, theirs):
        torch.manual_seed(1)
        wrapped.append(get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)))
    mine, other = (m(**batch(), use_cache=False, fused_lm_head=True).log_probs for m in wrapped)
    assert torch.equal(mine, other)
    assert "the batch carries inputs_embeds" in caplog.text


def test_rows_padded_on_the_left_fall_back(caplog: Any) -> None:
    ours, theirs, _ = twins(KNOWN["llama"](), "sdpa")
    inputs = {name: value.flip(1) for name, value in batch().items()}
    mine, other = (m(**inputs, use_cache=False, fused_lm_head=True).log_probs for m in (ours, theirs))
    assert torch.equal(mine, other)
    assert "rows are not padded on the right" in caplog.text


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([([5, 6, 7], [8, 9]), ([5, 6, 7], [8, 4])], id="completions that begin alike"),
        pytest.param([([5, 6, 7], [8]), ([5, 6, 7], [])], id="an empty completion"),
        pytest.param([([], [8, 9, 3]), ([], [7])], id="no prompt left by truncation"),
        pytest.param([([5], [8, 9]), ([5, 8], [9])], id="a prompt that begins another prompt"),
        pytest.param([([5, 6], [8, 9]), ([5, 6], [8, 9])], id="equal rows"),
    ],
)
def test_odd_rows_are_scored_as_trl_scores_them(rows: list[tuple[list[int], list[int]]]) -> None:
    ours, theirs, packed = twins(KNOWN["llama"](), "sdpa")
    assert_same(ours, theirs, answers(ours, theirs, padded(rows)))
    assert packed.reason is None


def test_every_prompt_and_every_distinct_completion_is_computed_once() -> None:
    """28 pairs of 8 completions: 56 rows cost one prompt and eight completions, less each one's last token."""
    prompt, completions = [11] * 20, [[30 + k] * (3 + k) for k in range(8)]
    pairs = [(i, j) for i in range(8) for j in range(i)]
    padded_batch = padded([(prompt, completions[i]) for pair in zip(*pairs, strict=True) for i in pair])
    assert len(padded_batch["input_ids"]) == 56
    ours, theirs, packed = twins(KNOWN["llama"](), "sdpa")
    computed: list[int] = []
    ours.model.embed_tokens.register_forward_hook(lambda module, inputs, output: computed.append(output.shape[1]))
    scored: list[int] = []
    assert_same(ours, theirs, answers(ours, theirs, padded_batch))
    scored.append(len(build_layout(**padded_batch).targets))
    assert computed == [20 + sum(len(c) - 1 for c in completions)]
    assert scored == [sum(len(c) for c in completions)]
    assert packed.reason is None


def test_what_prompts_begin_with_together_is_computed_once() -> None:
    """A system prompt of 30 tokens before 4 questions with two answers each, of 16 rows' tokens."""
    system, questions = [11] * 30, [[20 + n] * (2 + n) for n in range(4)]
    inputs = padded([(system + question, [40 + n] * 6) for question in questions for n in range(2)])
    ours, theirs, packed = twins(KNOWN["llama"](), "sdpa")
    assert_same(ours, theirs, answers(ours, theirs, inputs))
    assert packed.reason is None
    layout = build_layout(**inputs)
    assert layout.input_ids.numel() == 30 + sum(len(question) for question in questions) + 8 * 5
    assert len(layout.segments) == 8
    few = padded([([5, 6, 7, *question], [9, 9, 9]) for question in questions])
    assert build_layout(**few).input_ids.numel() == sum(3 + len(question) + 2 for question in questions)


def test_a_batch_without_anything_to_score_is_not_an_error() -> None:
    ours, theirs, _ = twins(KNOWN["llama"](), "sdpa")
    inputs = padded([([5, 6], []), ([7], [])])
    mine, other = (m(**inputs, use_cache=False, fused_lm_head=True).log_probs for m in (ours, theirs))
    assert torch.equal(mine, other)


def test_bfloat16_autocast_agrees_to_its_rounding() -> None:
    ours, theirs, _ = twins(KNOWN["llama"](), "sdpa")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mine, other = (m(**batch(), use_cache=False, fused_lm_head=True).log_probs for m in (ours, theirs))
    errors = (mine - other).abs()
    with torch.no_grad():
        exact = theirs(**batch(), use_cache=False, fused_lm_head=True).log_probs
    # No farther from TRL's bfloat16 than that is from float32, and far nearer than another completion's would be.
    assert float(errors.max()) <= 2 * float((other - exact).abs().max()) <= 0.05


def test_generation_is_untouched() -> None:
    ours, theirs, _ = twins(KNOWN["llama"](), "sdpa")
    ids = torch.tensor([[5, 6, 7, 8]])
    mine, other = (m.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0) for m in (ours, theirs))
    assert torch.equal(mine, other)
