"""A step's batch in microbatches: the same gradient and metrics, with the activations of one in memory at a time.

The shared-prefix forward has no padding, so nothing is lost where a batch is cut between prompts that have nothing in
common; a beginning that they share, such as a system prompt, is computed once per microbatch. DPO's loss is a mean
over pairs, hence its gradient is the sum of the microbatches' gradients, each times its share of the pairs; the `sft`
loss is a mean over tokens and counts by its share of those. On a CPU microbatches are faster than the whole as well:
what one operation writes is still in the cache when the next one reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairlead.training.shared_prefix.layout import common_tokens

WHOLE_BATCH_LOSSES = {"aot", "aot_unpaired"}
"""Losses of sorted pairs, which the whole batch alone knows."""

_MIN_TOKENS = {"cpu": 1024, "cuda": 16_384}  # that keep the matrix products busy
_ACTIVATION_BYTES = {"cpu": 2**30, "cuda": 2**34}  # that need not be cut
_GROWTH = 4  # how many times as large as its prompts' common beginning a microbatch may be
_KEPT_PER_LAYER = 16  # numbers that a layer keeps per token for its backward pass, in hidden sizes


@dataclass(frozen=True)
class Microbatch:
    """Some pairs of a batch.

    Attributes:
        inputs: TRL's batch of these pairs, chosen rows first.
        pair_share: these pairs as a share of the batch's pairs: the weight of losses and metrics that are means over
            pairs.
        token_shares: by loss or metric, the weight of those that are means over some of the answers' tokens.
    """

    inputs: dict[str, Any]
    pair_share: float = 1.0
    token_shares: Mapping[str, float] = field(default_factory=dict)

    def share(self, name: str) -> float:
        """The weight of a loss or a metric in that of the whole batch."""
        return self.token_shares.get(name, self.pair_share)


def tokens_at_once(config: Any, device: torch.device) -> int:
    """How many tokens a step computes at once if nobody says so.

    Args:
        config: a decoder's config.
    """
    kind = "cpu" if device.type == "cpu" else "cuda"
    bytes_per_token = 4 * _KEPT_PER_LAYER * int(config.hidden_size) * int(config.num_hidden_layers)
    return max(_MIN_TOKENS[kind], _ACTIVATION_BYTES[kind] // bytes_per_token)


def split(inputs: Mapping[str, Any], max_tokens: float) -> list[Microbatch]:
    """The batch in microbatches of at most `max_tokens` computed tokens; a prompt with its completions is never cut.

    One may have more where its prompts share a beginning, up to four times as many as that: then no more than about
    a quarter of what it computes is computed by another one too.

    Args:
        inputs: TRL's batch of B pairs: tensors [2B, T], chosen first, or [B]. A batch with anything else, or padded on
            the left, is left whole.
    """
    small = max_tokens == math.inf or int(inputs["attention_mask"].sum()) <= max_tokens  # sharing makes it smaller
    if small or not _can_be_cut(inputs):
        return [Microbatch(dict(inputs))]
    bins: list[_Bin] = []
    for key, (pairs, tokens) in sorted(_by_prompt(inputs).items()):
        prompt = np.array(key, dtype=np.int64)
        place = next((candidate for candidate in bins if candidate.fits(prompt, tokens, max_tokens)), None)
        if place is None:
            place = _Bin()
            bins.append(place)
        place.add(prompt, tokens, pairs)
    if len(bins) == 1:
        return [Microbatch(dict(inputs))]
    batches = [_take(inputs, sorted(place.pairs)) for place in bins]
    counts = [_token_counts(batch) for batch in batches]
    totals = {name: sum(count[name] for count in counts) for name in counts[0]}
    pairs_of_all = sum(len(place.pairs) for place in bins)
    return [
        Microbatch(
            batch,
            pair_share=len(place.pairs) / pairs_of_all,
            token_shares={name: count[name] / max(totals[name], 1) for name in totals},
        )
        for batch, place, count in zip(batches, bins, counts, strict=True)
    ]


def merge_metrics(
    metrics: dict[str, list[float]], before: Mapping[str, int], microbatches: Sequence[Microbatch]
) -> None:
    """Replaces what the microbatches have appended to each of TRL's metrics by the value of the whole batch.

    Args:
        before: how many values each metric had before the first microbatch.
    """
    for name, values in metrics.items():
        appended = values[before.get(name, 0) :]
        if len(appended) == len(microbatches):  # a running count has fewer
            shares = [microbatch.share(name) for microbatch in microbatches]
            values[-len(microbatches) :] = [sum(s * v for s, v in zip(shares, appended, strict=True))]


class _Bin:
    """A microbatch under construction; its prompts come in order, so that each begins most like the one before it."""

    def __init__(self) -> None:
        self.pairs: list[int] = []
        self._tokens = 0
        self._last = np.empty(0, dtype=np.int64)

    def fits(self, prompt: np.ndarray[Any, Any], tokens: int, max_tokens: float) -> bool:
        common = common_tokens(self._last, prompt, len(prompt))
        return self._tokens + tokens - common <= max(max_tokens, _GROWTH * common)

    def add(self, prompt: np.ndarray[Any, Any], tokens: int, pairs: list[int]) -> None:
        self._tokens += tokens - common_tokens(self._last, prompt, len(prompt))
        self._last = prompt
        self.pairs += pairs


def _can_be_cut(inputs: Mapping[str, Any]) -> bool:
    pairs = len(inputs["input_ids"]) // 2
    shapes = [(values.dim(), len(values)) if isinstance(values, Tensor) else None for values in inputs.values()]
    padded_right = bool(inputs["attention_mask"][:, 0].all())
    return padded_right and set(shapes) <= {(1, pairs), (2, 2 * pairs)}


def _by_prompt(inputs: Mapping[str, Any]) -> dict[tuple[int, ...], tuple[list[int], int]]:
    """The pairs of each prompt, and how many tokens their prompt and distinct completions have."""
    pairs = len(inputs["input_ids"]) // 2
    starts = inputs["completion_mask"].int().argmax(dim=1).tolist()
    ends = inputs["attention_mask"].sum(dim=1).tolist()
    rows = inputs["input_ids"].tolist()
    groups: dict[tuple[int, ...], tuple[list[int], set[tuple[int, ...]]]] = {}
    for pair in range(pairs):
        members, completions = groups.setdefault(tuple(rows[pair][: starts[pair]]), ([], set()))
        members.append(pair)
        completions.update(tuple(rows[row][starts[row] : ends[row]]) for row in (pair, pairs + pair))
    return {
        prompt: (members, len(prompt) + sum(len(completion) for completion in completions))
        for prompt, (members, completions) in groups.items()
    }


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
