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

_LINEAR = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}

# Models that are not packed: the way that they are computed instead, and why.
UNKNOWN: dict[str, tuple[Callable[[], hf.PreTrainedConfig], str, str]] = {
    "mamba": (
        lambda: hf.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4),
        "rows",
        "does not use transformers' attention interface, and it does not take up a cache",
    ),
    "mamba2": (
        lambda: hf.Mamba2Config(
            vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=8, num_heads=8, head_dim=8, n_groups=1
        ),
        "carried",
        "does not use transformers' attention interface",
    ),
    "qwen3_next": (
        lambda: hf.Qwen3NextConfig(
            **_WIDE,
            **_LINEAR,
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        ),
        "carried",
        "does not use transformers' attention interface",
    ),
    "qwen3_5": (
        lambda: hf.Qwen3_5TextConfig(**_WIDE, **_LINEAR),
        "carried",
        "does not use transformers' attention interface",
    ),
    "lfm2": (
        lambda: hf.Lfm2Config(**_GROUPED, layer_types=["conv", "full_attention"]),
        "carried",
        "it has layers of the kind conv",
    ),
    "bloom": (
        lambda: hf.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4),
        "carried",
        "does not use transformers' attention interface",
    ),
    "doge": (
        lambda: hf.DogeConfig(**_GROUPED, attention_bias=False),
        "carried",
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
def test_a_model_that_is_not_packed_gives_the_same_values_another_way_and_says_why_once(name: str, caplog: Any) -> None:
    config, way, reason = UNKNOWN[name]
    ours, theirs, packed = twins(config(), "eager")
    for model in (ours, theirs):
        model.eval()
    assert_same(ours, theirs, answers(ours, theirs, batch()))
    assert (packed.way, packed.reason) == (way, None)
    assert reason in packed.not_packed
    answers(ours, theirs, batch())
    said = [record.message for record in caplog.records if "prompts are not packed" in record.message]
    assert len(said) == len(set(said)) == (2 if way == "rows" else 1)


def test_a_recurrent_model_computes_a_prompt_once_for_all_its_answers() -> None:
    """A prompt of 20 tokens with four answers, and one of its own; rows of like length have no padding."""
    prompt, answer_lengths = [11] * 20, (3, 4, 5, 6)
    inputs = padded([*((prompt, [30 + n] * n) for n in answer_lengths), ([5, 6], [7] * 4)])
    ours, theirs, packed = twins(UNKNOWN["qwen3_5"][0](), "eager")
    with torch.no_grad():
        ours(**inputs, use_cache=False, fused_lm_head=True)  # the first time it is tried whether that is exact
    computed: list[tuple[int, ...]] = []
    ours.model.embed_tokens.register_forward_hook(lambda module, args, output: computed.append(output.shape[:2]))
    assert_same(ours, theirs, answers(ours, theirs, inputs))
    assert packed.way == "carried"
    assert sorted(computed) == [(1, 5), (1, 20), (4, 5)]


def test_checkpointed_layers_are_given_no_cache() -> None:
    ours, theirs, packed = twins(UNKNOWN["qwen3_5"][0](), "eager")
    ours.gradient_checkpointing_enable()
    ours.train(), theirs.train()
    assert_same(ours, theirs, answers(ours, theirs, batch()))
    assert packed.reason is None


def test_experts_are_balanced_over_the_padded_batch_in_a_recurrent_model_too() -> None:
    config = UNKNOWN["qwen3_next"][0]()
    config.output_router_logits = True
    ours, theirs, packed = twins(config, "eager")
    outputs = answers(ours, theirs, batch())
    assert outputs[0].aux_loss.item() == pytest.approx(outputs[1].aux_loss.item(), abs=1e-5)
    assert_same(ours, theirs, outputs)
    assert packed.way == "carried"


def test_a_model_that_looks_in_both_directions_answers_as_trl_and_says_why_once(caplog: Any) -> None:
    config = hf.Gemma3TextConfig(**_WIDE, query_pre_attn_scalar=8, use_bidirectional_attention=True)
    ours, theirs, packed = twins(config, "eager")
    for _ in range(2):
        mine, other = (m(**batch(), use_cache=False, fused_lm_head=True).log_probs for m in (ours, theirs))
        assert torch.equal(mine, other)
    assert "it looks in both directions" in packed.reason
    assert sum("TRL's own forward" in record.message for record in caplog.records) == 1


def test_rows_beyond_a_window_that_attention_is_not_told_of_are_computed_row_by_row(caplog: Any) -> None:
    def config(window: int) -> hf.PreTrainedConfig:
        return hf.PhimoeConfig(**_GROUPED, num_local_experts=2, num_experts_per_tok=1, sliding_window=window)

    for window, said in ((6, True), (4096, False)):
        caplog.clear()
        ours, theirs, packed = twins(config(window), "sdpa")
        mine, other = (m(**batch(), use_cache=False, fused_lm_head=True).log_probs for m in (ours, theirs))
        assert torch.allclose(mine, other, atol=1e-4)
        assert packed.way == "packed"
        assert ("a row is longer than the 6 tokens" in caplog.text) is said


def test_rows_longer_than_a_chunk_are_not_packed(caplog: Any) -> None:
    """Llama 4's attention is told of its chunks by the mask alone; TRL's own forward does not know its decoder."""
    sizes = {**_WIDE, "intermediate_size_mlp": 48, "num_local_experts": 4, "num_experts_per_tok": 2}
    kinds = ["chunked_attention", "full_attention"]
    for chunk, said in ((64, False), (8, True)):
        config = hf.Llama4TextConfig(**sizes, attention_chunk_size=chunk, layer_types=kinds)
        ours, theirs, packed = twins(config, "eager")
        inputs = batch()
        mine = ours(**inputs, use_cache=False, fused_lm_head=True).log_probs
        plain = theirs(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.log_softmax(-1)
        labels = inputs["labels"][:, 1:]
        expected = plain[:, :-1].gather(2, labels.clamp(min=0)[..., None])[..., 0].masked_fill(labels == -100, 0.0)
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)
        assert packed.way == "packed"
        assert ("a row is longer than the 8 tokens" in caplog.text) is said


def test_an_unknown_attention_falls_back() -> None:
    def local(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
        return hf.integrations.sdpa_attention.sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    hf.AttentionInterface.register("home_made", local)
    hf.AttentionMaskInterface.register("home_made", hf.masking_utils.sdpa_mask)
    ours, theirs, packed = twins(KNOWN["llama"](), "home_made")
    assert_same(ours, theirs, answers(ours, theirs, batch()))
    assert "home_made is not known" in packed.not_packed


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
