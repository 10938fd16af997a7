"""KL of a trained model from its reference, on answers that it gives to held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fairlead.config.model import ModelSection
from fairlead.models.adapters import ModelName, ModelVariant, VariantLoader
from fairlead.models.chat import prompt_tokens
from fairlead.models.continuous_batching import DecodeRequest
from fairlead.models.generation import eos_token_ids, generate_tokens, pad_token_id
from fairlead.models.log_probs import Scored, token_log_probs
from fairlead.records import Prompt, Sampling
from fairlead.training.monitoring.policy_samples import sample_seed

_BATCH = 32


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
    rows = [prompt_tokens(prompt, tokenizer) for prompt in prompts]
    pad_id = pad_token_id(tokenizer)
    sampling = Sampling(1.0, 1.0, max_new_tokens)
    requests = [DecodeRequest(row, sampling, sample_seed(row)) for row in rows]
    with loaded.use("dpo") as policy:
        eos_ids = eos_token_ids(policy, tokenizer)
        answers = generate_tokens(policy, requests, batch_size=_BATCH, eos_ids=eos_ids, pad_id=pad_id)
        scored = [Scored((*row, *answer), len(answer)) for row, answer in zip(rows, answers, strict=True)]
        ours = token_log_probs(policy, scored, pad_id=pad_id, batch_size=_BATCH)
    with loaded.use(reference) as start:
        theirs = token_log_probs(start, scored, pad_id=pad_id, batch_size=_BATCH)
    return [(a - b).tolist() for a, b in zip(ours, theirs, strict=True)]
