"""The key-value cache of the rows under way: allocated once, written in place, one place per row.

Rows end at the same column and begin wherever their length puts them:

    columns     0 1 2 3 4 5 6 7
    row 0       . a a a a a . .        a   a token
    row 1       . . . b b b . .        .   nothing; hidden by the mask
    row 2       . c c c . c . .
                            ^ end      free columns for the next tokens follow

A new token of every row goes into column `end`. Where no column is left, everything moves into tensors that have some
again, and columns that no row needs are left behind. A row that ends gives its place to the last row. Layers hand out
all columns, so that their tensors are dense: products of batches are computed without a copy only then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_FREE_COLUMNS = 32  # of a new tensor; every move copies the cache, every free column is computed and hidden


@dataclass(frozen=True)
class States:
    """Computed tokens of some rows.

    Attributes:
        layers: keys and values by layer, (rows, heads, columns, size).
        mask: (rows, columns), true where there is a token; the last column of every row holds one.
    """

    layers: Sequence[tuple[Tensor, Tensor]]
    mask: Tensor

    def row(self, place: int) -> States:
        """A copy of one row without the columns before its first token."""
        first = int(self.mask[place].int().argmax())
        layers = [
            (k[place : place + 1, :, first:].clone(), v[place : place + 1, :, first:].clone()) for k, v in self.layers
        ]
        return States(layers, self.mask[place : place + 1, first:].clone())


class Slots:
    """The rows under way, in transformers' form of a cache.

    Attributes:
        cache: for the model's forward; it grows by one token per row and call.
        count: rows under way; they are the first places.
    """

    def __init__(self, cache: DynamicCache, device: torch.device) -> None:
        self.cache = cache
        self.count = self.end = 0
        self._mask = torch.zeros(0, 0, dtype=torch.bool, device=device)
        cache.layers = [_SlotLayer(self) for _ in cache.layers]

    @property
    def columns(self) -> int:
        """Columns of the tensors, used or free."""
        return self._mask.shape[1]

    @property
    def mask(self) -> Tensor:
        """(rows, columns), true where there is a token."""
        return self._mask[: self.count]

    def add(self, states: States, places: Sequence[int]) -> None:
        """Puts rows behind those under way.

        Args:
            places: the rows of `states` that enter, some perhaps several times.
        """
        here = slice(self.count, self.count + len(places))
        length = states.mask.shape[1]
        if here.stop > len(self._mask) or length > self.end or self.end == self.columns:
            self._move(max(here.stop, len(self._mask)), length, states)
        columns = slice(self.end - length, self.end)
        index = torch.tensor(places, device=self._mask.device)
        for layer, (keys, values) in zip(self._layers, states.layers, strict=True):
            layer.keys[here, :, columns] = keys[index]
            layer.values[here, :, columns] = values[index]
        self._mask[here] = False
        self._mask[here, columns] = states.mask[index]
        self.count = here.stop

    def keep(self, places: Sequence[int]) -> list[int]:
        """Takes all other rows out. Returns where each place's row was."""
        staying = set(places)
        holes = [place for place in range(len(places)) if place not in staying]
        movers = [place for place in places if place >= len(places)]
        order = list(range(len(places)))
        if holes:
            for tensor in (self._mask, *(t for layer in self._layers for t in (layer.keys, layer.values))):
                tensor[holes] = tensor[movers]
            for hole, mover in zip(holes, movers, strict=True):
                order[hole] = mover
        self.count = len(places)
        return order

    def open_column(self) -> None:
        """Makes the next column one of a token of every row, which the model's forward then computes."""
        if self.end == self.columns:
            self._move(self.count, 0, None)
        self._mask[: self.count, self.end] = True

    def close_column(self) -> None:
        """To be called after the forward."""
        self.end += 1

    @property
    def _layers(self) -> list[Any]:
        return list(self.cache.layers)

    def _move(self, count: int, length: int, like: States | None) -> None:
        """Into new tensors for `count` rows, in which `length` columns come before the end and some are free."""
        begins = self._mask[: self.count, : self.end].any(0).int()
        first = int(begins.argmax()) if self.count and bool(begins.any()) else self.end
        used = self.end - first
        end = max(used, length)
        columns = end + _FREE_COLUMNS
        for number, layer in enumerate(self._layers):
            like_keys, like_values = (layer.keys, layer.values) if like is None else like.layers[number]
            layer.keys = self._moved(layer.keys, like_keys, count, columns, slice(first, self.end), end)
            layer.values = self._moved(layer.values, like_values, count, columns, slice(first, self.end), end)
            layer.is_initialized = True
        mask = self._mask.new_zeros(count, columns)
        mask[: self.count, end - used : end] = self._mask[: self.count, first : self.end]
        self._mask, self.end = mask, end

    def _moved(self, old: Tensor | None, like: Tensor, count: int, columns: int, used: slice, end: int) -> Tensor:
        # Zeros, because what the mask hides is multiplied by 0, and 0 times what lies in fresh memory may be no number.
        new = like.new_zeros(count, like.shape[1], columns, like.shape[3])
        if old is not None and self.count:
            kept = old[: self.count, :, used]
            new[: self.count, :, end - kept.shape[2] : end] = kept
        return new


class _SlotLayer(DynamicLayer):
    """One layer of `Slots`."""

    def __init__(self, slots: Slots) -> None:
        super().__init__()
        self._slots = slots

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Writes one token per row, (rows, heads, 1, size); returns all columns."""
        del args, kwargs
        slots = self._slots
        self.keys[: slots.count, :, slots.end : slots.end + 1] = key_states
        self.values[: slots.count, :, slots.end : slots.end + 1] = value_states
        return self.keys[: slots.count], self.values[: slots.count]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        del query_length
        return self._slots.columns, 0

    def get_seq_length(self) -> int:
        return self._slots.end
