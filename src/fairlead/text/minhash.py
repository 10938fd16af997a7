"""Near-duplicates among a hundred thousand long texts, by MinHash.

Broder 1997: the share of independent hash functions whose minimum over two sets is equal estimates the sets' Jaccard
similarity. Signatures are cut into bands (Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, 3.4): texts that
agree in a whole band are candidates, and every candidate is verified on its whole sets, so nothing is reported that is
not similar. With 16 bands of 4 a pair at similarity 0.8 is found with probability 0.9998, at 0.9 practically always.
`near_duplicates` is the exact search; it needs several times the memory, and the set of all texts at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fairlead.text.words import SHINGLE, Groups, Hashes, Words, are_similar, mixed

_BANDS, _ROWS = 16, 4
_COMPARED = 8  # members of a bucket that later ones are compared with, whatever their group
_BLOCK = 1 << 16  # shingles hashed at once: they stay in the processor's cache


def _constants() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """One bijection of 32-bit numbers per hash function: exclusive-or with one constant, times an odd one."""
    generator = np.random.default_rng(1997)
    draws = generator.integers(0, 2**32, size=(2, _BANDS * _ROWS), dtype=np.uint32)
    return draws[0], draws[1] | np.uint32(1)


_FLIPS, _FACTORS = _constants()


@dataclass
class MinHashIndex:
    """Takes texts in portions, then says which of them are nearly the same."""

    threshold: float
    _words: list[Words] = field(default_factory=list)  # by portion, the words of all its texts in a row
    _bounds: list[tuple[int, int, int]] = field(default_factory=list)  # by text: portion, first word, end
    _bands: list[Hashes] = field(default_factory=list)  # by portion, shape (texts, bands)

    def add(self, texts: Sequence[Words]) -> None:
        """The words of some more texts, as numbers; texts of fewer than five words match only their equals."""
        lengths = [len(words) for words in texts]
        ends = np.cumsum(lengths)
        portion = len(self._words)
        flat = np.concatenate([*texts, np.zeros(0, np.int32)]).astype(np.int32)
        self._bounds += [(portion, int(end) - length, int(end)) for end, length in zip(ends, lengths, strict=True)]
        self._words.append(flat)
        self._bands.append(_banded(_signatures([_shingles(words) for words in texts])))

    def clusters(self) -> list[int]:
        """Cluster number of every text, from 0 in order of first appearance; chains of near-duplicates are one."""
        groups = Groups(len(self._bounds))
        bands = np.concatenate([*self._bands, np.zeros((0, _BANDS), np.uint64)])
        for band in range(_BANDS):
            for members in _equal(bands[:, band]):
                self._join(members, groups)
        return groups.numbers()

    def _join(self, members: Sequence[int], groups: Groups) -> None:
        """Joins the candidates that are similar.

        Each is compared with those before it that are of another group; of a large group only its first few, so that a
        thousand copies of one text cost a thousand steps, not a million.
        """
        earlier: list[tuple[int, Hashes]] = []
        for member in members:
            hashes: Hashes | None = None
            known = False
            for other, theirs in earlier:
                if groups.find(other) != groups.find(member):
                    hashes = self._set(member) if hashes is None else hashes
                    if not are_similar(hashes, theirs, (len(hashes), len(theirs)), self.threshold):
                        continue
                    groups.join(other, member)
                known = True
            if not known or len(earlier) < _COMPARED:
                earlier.append((member, self._set(member) if hashes is None else hashes))

    def _set(self, text: int) -> Hashes:
        portion, start, end = self._bounds[text]
        return np.unique(_shingles(self._words[portion][start:end]))


def _shingles(words: Words) -> Hashes:
    """The hash of every run of five words; of the whole text where it is shorter."""
    size = min(SHINGLE, len(words))
    hashes = np.zeros(max(len(words) - size + 1, 1), np.uint64)
    for offset in range(size):
        hashes = mixed(hashes, words[offset : offset + len(hashes)])
    return hashes + np.uint64(size if size < SHINGLE else 0)


def _signatures(sets: Sequence[Hashes]) -> NDArray[np.uint32]:
    """Minimum of every hash function over each set: shape (sets, functions)."""
    signatures = np.empty((len(sets), len(_FLIPS)), np.uint32)
    start = 0
    while start < len(sets):
        end, size = start, 0
        while end < len(sets) and (size == 0 or size + len(sets[end]) <= _BLOCK):
            size += len(sets[end])
            end += 1
        block = sets[start:end]
        folded = (np.concatenate(block) >> np.uint64(32)).astype(np.uint32)
        starts = np.cumsum([0, *(len(hashes) for hashes in block[:-1])])
        for number, (flip, factor) in enumerate(zip(_FLIPS, _FACTORS, strict=True)):
            signatures[start:end, number] = np.minimum.reduceat((folded ^ flip) * factor, starts)
        start = end
    return signatures


def _banded(signatures: NDArray[np.uint32]) -> Hashes:
    """One hash per band: shape (sets, bands)."""
    bands = signatures.reshape(len(signatures), _BANDS, _ROWS).astype(np.uint64)
    hashes = np.zeros(bands.shape[:2], np.uint64)
    for row in range(_ROWS):
        hashes = mixed(hashes, bands[:, :, row])
    return hashes


def _equal(values: Hashes) -> list[list[int]]:
    """Groups of places that hold the same value, those of at least two."""
    order = np.argsort(values, kind="stable")
    edges = np.flatnonzero(np.diff(values[order])) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(order)]])
    large = np.flatnonzero(ends - starts > 1)
    return [order[starts[n] : ends[n]].tolist() for n in large]
