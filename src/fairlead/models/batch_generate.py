"""`model.generate` of transformers in batches of prompts of like length: for models without continuous batching.

Tokens in, tokens out; the same draws as `continuous_batching.decode`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from fairlead.models.continuous_batching import DecodeRequest
from fairlead.models.token_sampling import processors
from fairlead.records import Sampling


@torch.no_grad()
def generate_in_batches(
    model: Any,
    requests: Sequence[DecodeRequest],
    *,
    batch_size: int,
    eos_ids: set[int],
    pad_id: int,
    finished: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """New tokens of every request, the end token included; the model answers with the adapter that is switched on.

    Args:
        model: a causal LM in evaluation mode.
        batch_size: rows decoded at once; rows of a batch are sampled alike.
        eos_ids: token ids that end a completion.
        pad_id: token id that stands in padding; masked everywhere.
        finished: called with the number of completions of every batch.
    """
    by_sampling: dict[Sampling, list[int]] = {}
    for number, request in enumerate(requests):
        by_sampling.setdefault(request.sampling, []).append(number)
    completions: list[list[int]] = [[] for _ in requests]
    for sampling, members in by_sampling.items():
        members.sort(key=lambda n: len(requests[n].prompt))  # rows of like length waste least on padding
        for start in range(0, len(members), batch_size):
            batch = members[start : start + batch_size]
            tokens = _batch(model, [requests[n] for n in batch], sampling, eos_ids, pad_id)
            for n, completion in zip(batch, tokens, strict=True):
                completions[n] = up_to_end(completion, eos_ids)
            finished(len(batch))
    return completions


def _batch(
    model: Any, requests: Sequence[DecodeRequest], sampling: Sampling, eos_ids: set[int], pad_id: int
) -> list[list[int]]:
    prompts = [list(request.prompt) for request in requests]
    length = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (length - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
    output = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,  # the policy itself, not what its repository would make of it
            eos_token_id=sorted(eos_ids),
            pad_token_id=pad_id,
        ),
        logits_processor=processors(sampling, [request.seed for request in requests]),
    )
    tokens: list[list[int]] = output[:, length:].tolist()
    return tokens


def up_to_end(tokens: Sequence[int], eos_ids: set[int]) -> list[int]:
    """The tokens up to the first end token, which is included; what follows is padding."""
    for position, token in enumerate(tokens):
        if token in eos_ids:
            return list(tokens[: position + 1])
    return list(tokens)
