"""KL of a trained model from its reference, on answers that it gives to held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from fairlead.config.model import ModelSection
from fairlead.models.adapters import ModelName, ModelVariant, VariantLoader
from fairlead.models.generation import end_tokens
from fairlead.records import Prompt
from fairlead.training.monitoring.policy_samples import answer_log_probs, generate_tokens
from fairlead.training.trl_compat import add_log_prob_head


def log_ratios(
    section: ModelSection,
    folder: Path,
    views: Mapping[ModelName, ModelVariant],
    prompts: Sequence[Prompt],
    *,
    reference: ModelName,
    max_new_tokens: int,
) -> list[list[float]]:
    """Of each prompt one answer of the view dpo at temperature 1: [tokens] log π − log π_ref.

    Args:
        reference: the view that DPO started from.
        max_new_tokens: longer answers are cut, and their KL is that of what is left.
    """
    loaded = VariantLoader(section, folder, views)
    tokenizer = loaded.tokenizer
    rows = [
        tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in prompt.messages],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]
        for prompt in prompts
    ]
    pad = int(tokenizer.pad_token_id)
    with torch.no_grad():
        with loaded.use("dpo") as policy:
            ends = end_tokens(policy, tokenizer)
            answers = generate_tokens(policy, rows, ends=ends, pad=pad, limit=max_new_tokens)
            ours = _scored(policy, rows, answers, pad)
        with loaded.use(reference) as start:
            theirs = _scored(start, rows, answers, pad)
    return [(a - b).tolist() for a, b in zip(ours, theirs, strict=True)]


def _scored(model: Any, prompts: list[list[int]], answers: list[list[int]], pad: int) -> list[torch.Tensor]:
    """The answers' log-probabilities; the base weights get TRL's fused head for as long as it takes."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    original = base.forward
    add_log_prob_head(base)
    try:
        return answer_log_probs(model, prompts, answers, pad=pad, device=model.device)
    finally:
        base.forward = original
