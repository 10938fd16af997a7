"""A step's batch in parts: the same gradient and figures, with the activations of one part in memory at a time.

A packed row has no padding, so nothing is lost where it is cut between prompts that have nothing in common; a beginning
that they share, such as a system prompt, is computed once per part. DPO's loss is a mean over pairs, hence
its gradient is the sum of the parts' gradients, each times its share of the pairs; the `sft` loss is a mean over tokens
and counts by its share of those. On a CPU the parts are faster than the whole as well: what one operation writes is
still in the cache when the next one reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairlead.training.shared_prefix.layout import common_tokens

WHOLE_BATCH_LOSSES = {"aot", "aot_unpaired"}
"""Losses of sorted pairs, which the whole batch alone knows."""

_FEWEST = {"cpu": 1024, "cuda": 16_384}  # tokens that keep the matrix products busy
_HELD = {"cpu": 2**30, "cuda": 2**34}  # bytes of activations that need not be cut
_SHARED = 4  # how many times as large as its prompts' common beginning a part may be
_KEPT_PER_LAYER = 16  # numbers that a layer keeps per token for its backward pass, in hidden sizes


@dataclass(frozen=True)
class Part:
    """Some pairs of a batch.

    Attributes:
        inputs: TRL's batch of these pairs, chosen rows first.
        weights: how much each figure of the part counts in the figure of the batch, and the loss `sft` in its loss; ""
            stands for all that are means over pairs, the other losses included.
    """

    inputs: dict[str, Any]
    weights: Mapping[str, float]


def tokens_at_once(config: Any, device: torch.device) -> int:
    """How many tokens of the packed row a step computes at once.

    Args:
        config: a decoder's config.
    """
    kind = "cpu" if device.type == "cpu" else "cuda"
    per_token = 4 * _KEPT_PER_LAYER * int(config.hidden_size) * int(config.num_hidden_layers)
    return max(_FEWEST[kind], _HELD[kind] // per_token)


def split(inputs: Mapping[str, Any], most: float) -> list[Part]:
    """The batch in parts of at most `most` computed tokens; a prompt with its completions is never cut.

    A part may have more where its prompts share a beginning, up to four times as many as that: then no more than about
    a quarter of what a part computes is computed by another part too.

    Args:
        inputs: TRL's batch of B pairs: tensors [2B, T], chosen first, or [B]. A batch with anything else, or padded on
            the left, is left whole.
    """
    small = most == math.inf or int(inputs["attention_mask"].sum()) <= most  # sharing only makes it smaller
    if small or not _can_be_cut(inputs):
        return [Part(dict(inputs), {"": 1.0})]
    bins: list[_Bin] = []
    for key, (members, tokens) in sorted(_by_prompt(inputs).items()):
        prompt = np.array(key, dtype=np.int64)
        place = next((each for each in bins if each.fits(prompt, tokens, most)), None)
        if place is None:
            place = _Bin()
            bins.append(place)
        place.add(prompt, tokens, members)
    if len(bins) == 1:
        return [Part(dict(inputs), {"": 1.0})]
    chosen = [_take(inputs, sorted(each.members)) for each in bins]
    counts = [_counts(part) for part in chosen]
    totals = {name: sum(count[name] for count in counts) for name in counts[0]}
    return [
        Part(part, {name: count[name] / max(totals[name], 1) for name in totals})
        for part, count in zip(chosen, counts, strict=True)
    ]


def merge(figures: dict[str, list[float]], before: Mapping[str, int], parts: Sequence[Part]) -> None:
    """Replaces what the parts have appended to each of TRL's figures by the figure of the whole batch.

    Args:
        before: how many values each figure had before the first part.
    """
    for name, values in figures.items():
        own = values[before.get(name, 0) :]
        if len(own) == len(parts):  # a running count has fewer
            weights = [part.weights.get(name, part.weights[""]) for part in parts]
            values[-len(parts) :] = [sum(w * v for w, v in zip(weights, own, strict=True))]


class _Bin:
    """A part under construction; its prompts come in order, so that each begins most like the one before it."""

    def __init__(self) -> None:
        self.members: list[int] = []
        self._tokens = 0
        self._last = np.empty(0, dtype=np.int64)

    def fits(self, prompt: np.ndarray[Any, Any], tokens: int, most: float) -> bool:
        common = common_tokens(self._last, prompt, len(prompt))
        return self._tokens + tokens - common <= max(most, _SHARED * common)

    def add(self, prompt: np.ndarray[Any, Any], tokens: int, members: list[int]) -> None:
        self._tokens += tokens - common_tokens(self._last, prompt, len(prompt))
        self._last = prompt
        self.members += members


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


def _counts(inputs: Mapping[str, Any]) -> dict[str, int]:
    """What TRL's figures of a batch are means over: its completions' tokens, or its pairs."""
    chosen, rejected = (int(mask[:, 1:].sum()) for mask in inputs["completion_mask"].chunk(2))
    return {
        "": len(inputs["input_ids"]) // 2,
        "sft": chosen,
        "entropy": chosen + rejected,
        "logits/chosen": chosen,
        "mean_token_accuracy": chosen,
        "logits/rejected": rejected,
    }
