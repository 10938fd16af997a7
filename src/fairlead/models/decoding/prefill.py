"""Prompts through the model: each once, and what all of them begin with once for all.

Prompts are computed in parts of like length, padded on the left of what they do not share:

    common | padding | rest of the prompt
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fairlead.models.decoding.forward import Forward
from fairlead.models.decoding.slots import States

MIN_COMMON = 16  # tokens; fewer are not worth a forward of their own
_TOKENS_AT_ONCE = 4096  # of a forward, padding included: what its activations need


class Prompt(NamedTuple):
    """Tokens and the adapter that reads them; equal ones have the same keys and values."""

    tokens: tuple[int, ...]
    adapter: str | None


def common_beginning(prompts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """What all prompts begin with, if it is long enough to be computed once; at least a token of each is left."""
    distinct = {tuple(prompt) for prompt in prompts}
    if len(distinct) < 2:
        return ()
    first, last, shortest = min(distinct), max(distinct), min(map(len, distinct))
    common = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), shortest)
    common = min(common, shortest - 1)
    return first[:common] if common >= MIN_COMMON else ()


class Prefill:
    """Computes prompts.

    Args:
        beginning: what every prompt begins with.
        pad_id: token id that stands in padding; masked everywhere.
    """

    def __init__(self, forward: Forward, beginning: Sequence[int], pad_id: int) -> None:
        self._forward, self._pad_id = forward, pad_id
        self._beginning = list(beginning) if forward.keeps_all_tokens() else []
        self._computed: dict[str | None, States] = {}

    def __call__(self, prompts: Sequence[Prompt]) -> Iterator[tuple[list[int], States, Tensor]]:
        """Parts of the prompts: their numbers, their states, and the logits [prompts, vocabulary] of what follows."""
        rests = [list(prompt.tokens[len(self._beginning) :]) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda n: -len(rests[n]))
        while order:
            size = max(1, _TOKENS_AT_ONCE // len(rests[order[0]]))
            part, order = order[:size], order[size:]
            states, logits = self._compute([rests[n] for n in part], [prompts[n].adapter for n in part])
            yield part, states, logits

    def _compute(self, rests: Sequence[list[int]], adapters: Sequence[str | None]) -> tuple[States, Tensor]:
        device, length = self._forward.device, max(map(len, rests))
        ids = torch.tensor([[self._pad_id] * (length - len(rest)) + rest for rest in rests], device=device)
        mask = torch.tensor([[False] * (length - len(rest)) + [True] * len(rest) for rest in rests], device=device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0) + len(self._beginning)
        cache = self._forward.empty_cache()
        if self._beginning:
            before = [self._common(adapter) for adapter in adapters]
            for number, layer in enumerate(cache.layers):
                pairs = [states.layers[number] for states in before]
                layer.lazy_initialization(*pairs[0])
                layer.keys, layer.values = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
            mask = torch.cat([mask.new_ones(len(rests), len(self._beginning)), mask], dim=1)
        logits = self._forward(ids, mask, positions, cache, adapters)
        return States([(layer.keys, layer.values) for layer in cache.layers], mask), logits

    def _common(self, adapter: str | None) -> States:
        """The states of the common beginning, one row."""
        if adapter not in self._computed:
            ids = torch.tensor([self._beginning], device=self._forward.device)
            mask, cache = torch.ones_like(ids, dtype=torch.bool), self._forward.empty_cache()
            self._forward(ids, mask, mask.cumsum(-1) - 1, cache, [adapter])
            self._computed[adapter] = States([(layer.keys, layer.values) for layer in cache.layers], mask)
        return self._computed[adapter]
