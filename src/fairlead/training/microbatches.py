"""A step's batch in microbatches: the same gradient and metrics, with the activations of one in memory at a time.

The shared-prefix forward has no padding, so nothing is lost where a batch is cut between rows that have nothing in
common; a beginning that they share, such as a system prompt, is computed once per microbatch. A loss that is a mean
over the batch has as its gradient the sum of the microbatches' gradients, each times its share of what the mean is
taken over. On a CPU microbatches are faster than the whole as well: what one operation writes is still in the cache
when the next one reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fairlead.training.shared_prefix.layout import common_tokens

_MIN_TOKENS = {"cpu": 1024, "cuda": 16_384}  # that keep the matrix products busy
_ACTIVATION_BYTES = {"cpu": 2**30, "cuda": 2**34}  # that need not be cut
_GROWTH = 4  # how many times as large as its rows' common beginning a microbatch may be
_KEPT_PER_LAYER = 16  # numbers that a layer keeps per token for its backward pass, in hidden sizes


@dataclass(frozen=True)
class Microbatch:
    """Some rows of a batch.

    Attributes:
        inputs: TRL's batch of these rows.
        weight: the weight of their loss and metrics in those of the whole batch.
        weights: by loss or metric, the weight of those that are means over something else.
    """

    inputs: dict[str, Any]
    weight: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def weight_of(self, name: str) -> float:
        """The weight of a loss or a metric in that of the whole batch."""
        return self.weights.get(name, self.weight)


@dataclass(frozen=True)
class Group:
    """Rows of a batch that stay together.

    Attributes:
        beginning: [n] tokens in which it may begin like other groups.
        prompt: how many of them come before the first scored token.
        tokens: how many tokens it has that must be computed if it shares nothing with another group.
        members: numbers of its rows (or pairs) in the batch.
    """

    beginning: np.ndarray[Any, Any]
    prompt: int
    tokens: int
    members: tuple[int, ...]


def tokens_at_once(config: Any, device: torch.device) -> int:
    """How many tokens a step computes at once if nobody says so.

    Args:
        config: a decoder's config.
    """
    kind = "cpu" if device.type == "cpu" else "cuda"
    bytes_per_token = 4 * _KEPT_PER_LAYER * int(config.hidden_size) * int(config.num_hidden_layers)
    return max(_MIN_TOKENS[kind], _ACTIVATION_BYTES[kind] // bytes_per_token)


def fill(groups: Iterable[Group], max_tokens: float) -> list[list[int]]:
    """The members of microbatches of at most `max_tokens` computed tokens, in ascending order each.

    One may have more where its groups share a beginning, up to four times as many as that: then no more than about a
    quarter of what it computes is computed by another one too. A group is never cut.

    Args:
        groups: sorted by their beginnings, so that each begins most like the one before it.
    """
    bins: list[_Bin] = []
    for group in groups:
        place = next((candidate for candidate in bins if candidate.fits(group, max_tokens)), None)
        if place is None:
            place = _Bin()
            bins.append(place)
        place.add(group)
    return [sorted(place.members) for place in bins]


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
            weights = [microbatch.weight_of(name) for microbatch in microbatches]
            values[-len(microbatches) :] = [sum(w * v for w, v in zip(weights, appended, strict=True))]


class _Bin:
    """A microbatch under construction."""

    def __init__(self) -> None:
        self.members: list[int] = []
        self._tokens = 0
        self._last = np.empty(0, dtype=np.int64)

    def fits(self, group: Group, max_tokens: float) -> bool:
        common = common_tokens(self._last, group.beginning, group.prompt)
        return self._tokens + group.tokens - common <= max(max_tokens, _GROWTH * common)

    def add(self, group: Group) -> None:
        self._tokens += group.tokens - common_tokens(self._last, group.beginning, group.prompt)
        self._last = group.beginning
        self.members += group.members
