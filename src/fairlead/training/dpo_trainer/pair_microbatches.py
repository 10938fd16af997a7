"""A batch of preference pairs in microbatches.

DPO's loss is a mean over pairs, hence its gradient is the sum of the microbatches' gradients, each times its share of
the pairs; the `sft` loss is a mean over tokens and counts by its share of those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fairlead.training.microbatches import Group, Microbatch, fill

WHOLE_BATCH_LOSSES = {"aot", "aot_unpaired"}
"""Losses of sorted pairs, which the whole batch alone knows."""


def split(inputs: Mapping[str, Any], max_tokens: float) -> list[Microbatch]:
    """The batch in microbatches of about `max_tokens` computed tokens (`microbatches.fill`).

    A prompt with its completions is never cut.

    Args:
        inputs: TRL's batch of B pairs: tensors [2B, T], chosen first, or [B]. A batch with anything else, or padded on
            the left, is left whole.
    """
    small = max_tokens == math.inf or int(inputs["attention_mask"].sum()) <= max_tokens  # sharing makes it smaller
    if small or not _can_be_cut(inputs):
        return [Microbatch(dict(inputs))]
    parts = fill(_by_prompt(inputs), max_tokens)
    if len(parts) == 1:
        return [Microbatch(dict(inputs))]
    batches = [_take(inputs, members) for members in parts]
    counts = [_token_counts(batch) for batch in batches]
    totals = {name: sum(count[name] for count in counts) for name in counts[0]}
    pairs_of_all = sum(map(len, parts))
    return [
        Microbatch(
            batch,
            weight=len(members) / pairs_of_all,
            weights={name: count[name] / max(totals[name], 1) for name in totals},
        )
        for batch, members, count in zip(batches, parts, counts, strict=True)
    ]


def _can_be_cut(inputs: Mapping[str, Any]) -> bool:
    pairs = len(inputs["input_ids"]) // 2
    shapes = [(values.dim(), len(values)) if isinstance(values, Tensor) else None for values in inputs.values()]
    padded_right = bool(inputs["attention_mask"][:, 0].all())
    return padded_right and set(shapes) <= {(1, pairs), (2, 2 * pairs)}


def _by_prompt(inputs: Mapping[str, Any]) -> list[Group]:
    """The pairs of each prompt, sorted by the prompts, with the tokens of their prompt and distinct completions."""
    pairs = len(inputs["input_ids"]) // 2
    starts = inputs["completion_mask"].int().argmax(dim=1).tolist()
    ends = inputs["attention_mask"].sum(dim=1).tolist()
    rows = inputs["input_ids"].tolist()
    groups: dict[tuple[int, ...], tuple[list[int], set[tuple[int, ...]]]] = {}
    for pair in range(pairs):
        members, completions = groups.setdefault(tuple(rows[pair][: starts[pair]]), ([], set()))
        members.append(pair)
        completions.update(tuple(rows[row][starts[row] : ends[row]]) for row in (pair, pairs + pair))
    return [
        Group(np.array(prompt, dtype=np.int64), len(prompt), len(prompt) + sum(map(len, completions)), tuple(members))
        for prompt, (members, completions) in sorted(groups.items())
    ]


def _take(inputs: Mapping[str, Any], members: list[int]) -> dict[str, Any]:
    """The batch of some pairs, cut to its own longest row."""
    pairs = len(inputs["input_ids"]) // 2
    rows = [*members, *(pairs + member for member in members)]
    longest = int(inputs["attention_mask"][rows].sum(dim=1).max())
    return {name: values[members] if values.dim() == 1 else values[rows, :longest] for name, values in inputs.items()}


def _token_counts(inputs: Mapping[str, Any]) -> dict[str, int]:
    """Over how many tokens of its answers the losses and metrics of a batch are means that are no means over pairs."""
    chosen, rejected = (int(mask[:, 1:].sum()) for mask in inputs["completion_mask"].chunk(2))
    return {
        "sft": chosen,
        "entropy": chosen + rejected,
        "logits/chosen": chosen,
        "mean_token_accuracy": chosen,
        "logits/rejected": rejected,
    }
