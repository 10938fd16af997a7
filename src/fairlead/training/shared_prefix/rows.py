"""A padded batch row by row: for decoders whose tokens depend on more than attention, which the packed row is not for.

Equal rows are computed once, rows of like length together, padded on the right, where no token of a causal decoder
looks. Only the hidden states that predict scored tokens are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairlead.training.shared_prefix.layout import (
    IGNORED,
    ScoredTokens,
    distinct_scored,
    require_scored_right_padded,
)

_PADDING = 8  # a call computes at most an eighth of padding more


@dataclass(frozen=True)
class Row:
    """A row of a batch that is computed.

    Attributes:
        tokens: without padding and, unless every token counts, without the last one, which predicts nothing.
        prompt: how many tokens come before the first scored one; all of them where none is scored.
        count: how many rows of the batch are equal to it.
    """

    tokens: tuple[int, ...]
    prompt: int
    count: int

    @property
    def first(self) -> int:
        """The token whose hidden state predicts the first scored one; from there on the states are kept."""
        return max(self.prompt - 1, 0)


@dataclass
class Routed:
    """What the routers of a mixture of experts gave, for the loss that spreads tokens over experts.

    Attributes:
        logits: of each call those of each layer, [tokens, experts].
        weights: of each call, [tokens], how many tokens of the padded batch each stands for; 0 for padding.
    """

    logits: list[tuple[Tensor, ...]] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)

    def add(self, output: Any, mask: Tensor, counts: Sequence[int]) -> None:
        """Adds a call's output if it has any.

        Args:
            mask: [rows, tokens], 1 for tokens that are no padding.
            counts: how many rows of the batch each row stands for.
        """
        logits = getattr(output, "router_logits", None)
        if logits is not None:
            self.logits.append(tuple(layer.reshape(mask.numel(), -1) for layer in logits))
            self.weights.append((mask * torch.tensor(counts, device=mask.device)[:, None]).reshape(-1))

    def joined(self) -> tuple[tuple[Tensor, ...], Tensor]:
        """Of each layer [N, experts], and [1, N] weights."""
        return tuple(torch.cat(layer) for layer in zip(*self.logits, strict=True)), torch.cat(self.weights)[None]


def distinct_rows(
    input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, keep_last: bool
) -> tuple[list[Row], ScoredTokens]:
    """The distinct rows of a padded batch, and its scored tokens; arguments as those of `build_layout`.

    `sources` of the tokens are places among the states of all rows, each row's from `Row.first` on.

    Raises:
        UnsupportedBatchError: if a row is padded on the left, or nothing is scored.
    """
    lengths = require_scored_right_padded(attention_mask, labels)
    is_scored = labels.cpu().numpy() != IGNORED
    members: dict[tuple[int, ...], list[int]] = {}
    for number, (ids, length) in enumerate(zip(input_ids.tolist(), lengths, strict=True)):
        if keep_last or is_scored[number, 1:].any():
            members.setdefault(tuple(ids[: length if keep_last else length - 1]), []).append(number)
    rows: list[Row] = []
    sources: dict[int, np.ndarray[Any, Any]] = {}
    place = 0
    for tokens, numbers in members.items():
        scored = is_scored[numbers]
        prompt = int(scored.argmax(axis=1)[scored.any(axis=1)].min()) if scored.any() else len(tokens)
        row = Row(tokens, prompt, len(numbers))
        for number in numbers:
            sources[number] = place - row.first + np.flatnonzero(is_scored[number, 1:])
        place += len(tokens) - row.first
        rows.append(row)
    places = [sources[number] for number in sorted(sources)]
    return rows, distinct_scored(np.concatenate(places), labels)


def by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of rows that are computed in one call: the longest first, with little padding."""
    groups: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        if groups:
            longest = lengths[groups[-1][0]]
            together = [*groups[-1], number]
            if sum(longest - lengths[n] for n in together) * _PADDING <= longest * len(together):
                groups[-1].append(number)
                continue
        groups.append([number])
    return groups


def padded(rows: Sequence[Sequence[int]], device: torch.device, width: int = 0) -> tuple[Tensor, Tensor]:
    """Tokens and mask, [R, T], padded on the right to the longest row, and to `width` at least."""
    width = max(width, *map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask


def row_states(
    backbone: nn.Module, rows: Sequence[Row], device: torch.device, routed: Routed, *, one_call: bool, **kwargs: Any
) -> list[Tensor]:
    """Of each row the hidden states from `Row.first` on, [tokens, H].

    Args:
        backbone: a transformers decoder.
        routed: gets the router's logits, if the decoder returns them.
        one_call: whether all rows are computed in one call; else as many as keep the padding small.
        kwargs: further arguments of its forward.
    """
    lengths = [len(row.tokens) for row in rows]
    states: dict[int, Tensor] = {}
    for group in [list(range(len(rows)))] if one_call else by_length(lengths):
        ids, mask = padded([rows[n].tokens for n in group], device)
        output = backbone(input_ids=ids, attention_mask=mask, use_cache=False, **kwargs)
        routed.add(output, mask, [rows[n].count for n in group])
        for place, n in enumerate(group):
            states[n] = output.last_hidden_state[place, rows[n].first : lengths[n]]
    return [states[n] for n in range(len(rows))]
