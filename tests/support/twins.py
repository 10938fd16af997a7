"""One model twice: with TRL's padded forward and with the shared-prefix forward."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
import transformers.integrations.sdpa_attention
import transformers.masking_utils
from torch import Tensor

from fairlead.training.shared_prefix.forward import share_prefixes
from fairlead.training.trl_compat import add_log_prob_head

OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1", "log_sum_sq_probs")

_ALL = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "pad_token_id": 0}

_ALL |= {"num_attention_heads": 4, "max_position_embeddings": 256}

_GROUPED = {**_ALL, "num_key_value_heads": 2}

_WIDE = {**_GROUPED, "head_dim": 8}

_MIXED_LAYERS = ["sliding_attention", "full_attention"]

KNOWN: dict[str, Callable[[], hf.PreTrainedConfig]] = {
    "llama": lambda: hf.LlamaConfig(**_GROUPED),
    "qwen2": lambda: hf.Qwen2Config(**_GROUPED, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "qwen3": lambda: hf.Qwen3Config(**_WIDE),
    "mistral": lambda: hf.MistralConfig(**_WIDE, sliding_window=5),
    "gemma2": lambda: hf.Gemma2Config(
        **_WIDE, sliding_window=5, query_pre_attn_scalar=8, attn_logit_softcapping=2.0, final_logit_softcapping=1.5
    ),
    "gemma3": lambda: hf.Gemma3TextConfig(
        **_WIDE, sliding_window=5, query_pre_attn_scalar=8, layer_types=_MIXED_LAYERS
    ),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**_ALL),
    "gpt2": lambda: hf.GPT2Config(
        vocab_size=97, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    ),
    "phi3": lambda: hf.Phi3Config(**_GROUPED),
    "olmo2": lambda: hf.Olmo2Config(**_GROUPED),
    "granite": lambda: hf.GraniteConfig(**_GROUPED, logits_scaling=2.0),
    "cohere": lambda: hf.CohereConfig(**_GROUPED),
    "mixtral": lambda: hf.MixtralConfig(
        **_GROUPED, num_local_experts=4, num_experts_per_tok=2, output_router_logits=True
    ),
    "qwen3_moe": lambda: hf.Qwen3MoeConfig(
        **_WIDE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, output_router_logits=True
    ),
}


def batch() -> dict[str, Tensor]:
    """Five rows of two prompts, two rows equal, completions of 1 to 7 tokens; three of two that begin alike."""
    draw = torch.Generator().manual_seed(0)

    def text(length: int) -> list[int]:
        return torch.randint(3, 97, (length,), generator=draw).tolist()

    long, short = text(9), text(4)
    a, b, c, d = text(3), text(7), text(5), text(1)
    system, one, other = text(20), text(2), text(4)
    alike = [(system + one, a), (system + other, c), (system + one, b)]
    return padded([(long, a), (short, c), (long, b), (short, d), (long, a), *alike])


def padded(rows: list[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(completion)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def twins(config: hf.PreTrainedConfig, attention: str) -> tuple[Any, Any, Any]:
    """The same model with the packed forward and with TRL's."""
    torch.manual_seed(0)
    return twins_of(hf.AutoModelForCausalLM.from_config(config, attn_implementation=attention))


def twins_of(ours: Any) -> tuple[Any, Any, Any]:
    """A model with the packed forward, and its copy with TRL's."""
    theirs = copy.deepcopy(ours)
    for model in (ours, theirs):
        add_log_prob_head(model, OUTPUTS)
    return ours, theirs, share_prefixes(ours, OUTPUTS)


def answers(ours: Any, theirs: Any, inputs: dict[str, Tensor]) -> tuple[Any, Any]:
    """Both outputs after a backward pass of a weighted sum, in which no token's gradient cancels another's."""
    outputs = []
    for model in (ours, theirs):
        output = model(**inputs, use_cache=False, fused_lm_head=True)
        weights = torch.linspace(-1, 1, output.log_probs.numel(), device=output.log_probs.device)
        loss = (output.log_probs * weights.view_as(output.log_probs)).sum()
        (loss if output.aux_loss is None else loss + 0.1 * output.aux_loss).backward()
        outputs.append(output)
    return outputs[0], outputs[1]


def assert_same(ours: Any, theirs: Any, outputs: tuple[Any, Any]) -> None:
    """Values to 1e-4 and gradients to a relative 1e-4; of those below a millionth of the largest, rounding is left."""
    for name in OUTPUTS:
        torch.testing.assert_close(getattr(outputs[0], name), getattr(outputs[1], name), atol=1e-4, rtol=1e-4)
    assert outputs[0].loss.item() == pytest.approx(outputs[1].loss.item(), abs=1e-4)
    largest = max(float(other.grad.norm()) for other in theirs.parameters() if other.grad is not None)
    compared = 0
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None), name
        if other.grad is not None and other.grad.norm() > 1e-6 * max(largest, 1.0):
            assert float((mine.grad - other.grad).norm() / other.grad.norm()) < 1e-4, name
            compared += 1
    assert compared > 2
