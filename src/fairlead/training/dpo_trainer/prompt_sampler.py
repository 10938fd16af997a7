"""Which training pairs share a batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


def prompt_batches(prompts: Sequence[Hashable], batch_size: int, rng: np.random.Generator) -> list[int]:
    """An order of the rows in which pairs of one prompt fall into the same batch of `batch_size` as far as they fit.

    Each prompt goes into the first batch that has room for all of its pairs, the prompts with most pairs first (first
    fit decreasing), in an order that is random otherwise. A prompt with more pairs than a batch holds is cut.

    Args:
        prompts: the prompt of each row, in any form that can be compared.

    Returns:
        A permutation of the row numbers.
    """
    groups: dict[Hashable, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(row)
    pieces = [g[i : i + batch_size] for g in groups.values() for i in range(0, len(g), batch_size)]
    pieces = [pieces[number] for number in rng.permutation(len(pieces))]
    full: list[list[int]] = []
    partial: list[list[int]] = []
    for piece in sorted(pieces, key=len, reverse=True):
        batch = next((b for b in partial if len(b) + len(piece) <= batch_size), None)
        if batch is None:
            batch = []
            partial.append(batch)
        batch.extend(piece)
        if len(batch) == batch_size:
            partial.remove(batch)
            full.append(batch)
    # Rows are cut into batches by count, so those that are not full go last: they must not shift the others.
    return [row for batch in [*(full[n] for n in rng.permutation(len(full))), *partial] for row in batch]


class PromptSampler(Sampler[int]):
    """`prompt_batches`, a new order in every epoch, the same for the same seed and epoch."""

    def __init__(self, prompts: Sequence[Hashable], batch_size: int, seed: int) -> None:
        self._prompts, self._batch_size, self._seed = prompts, batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, self._epoch])
        return iter(prompt_batches(self._prompts, self._batch_size, rng))
