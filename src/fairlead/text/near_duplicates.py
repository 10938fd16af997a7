"""Which texts say nearly the same: equality after normalising, or Jaccard similarity of their 5-word shingles.

The search is exact. Prefix filtering (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007): with the
shingles of every set sorted from rare to common, two sets A and B with |A∩B| / |A∪B| ≥ t share at least one of the
first |A| − ⌈t·|A|⌉ + 1 shingles of A and the first |B| − ⌈t·|B|⌉ + 1 of B; where |A| ≤ |B|, the first
|A| − ⌈2t/(1+t)·|A|⌉ + 1 of A are enough (Xiao et al. 2008, PPJoin). Boilerplate that thousands of texts share stands
at the end of that order and costs little, and every candidate is verified on the whole sets. No sampling, no seed:
MinHash would miss some pairs, and would have to verify the ones it finds as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairlead.text.words import ROUNDING, SHINGLE, Groups, Vocabulary, Words, are_similar, mixed

Ints = NDArray[np.int64]


def overlaps(texts: Sequence[str], against: Sequence[str], threshold: float) -> dict[int, tuple[int, float]]:
    """The texts that repeat one of `against`, exactly or nearly.

    Args:
        threshold: Jaccard similarity of 5-word shingles, in (0, 1], from which two texts count as near-duplicates.
            Texts of fewer than five words count only when they are equal after normalising.

    Returns:
        index in `texts` → (index in `against` of the most similar text, the first of equals; its similarity).
        Texts that are equal after normalising have similarity 1.
    """
    vocabulary = Vocabulary()
    words = [vocabulary.words(text) for text in texts]
    other = [vocabulary.words(text) for text in against]
    first_equal = {key.tobytes(): index for index, key in reversed(list(enumerate(other)))}
    overlapping = {
        index: (first_equal[key.tobytes()], 1.0) for index, key in enumerate(words) if key.tobytes() in first_equal
    }
    left = [index for index in range(len(words)) if index not in overlapping]
    sets = _shingle_sets([words[index] for index in left] + other, len(vocabulary))
    postings = _Postings.of(sets, len(left))
    for position, index in enumerate(left):
        best = postings.most_similar(sets[position], int(sets.sizes[position]), threshold)
        if best is not None:
            overlapping[index] = best
    return dict(sorted(overlapping.items()))


def clusters(texts: Sequence[str], threshold: float) -> list[int]:
    """Cluster number of every text, from 0 in order of first appearance.

    Two texts are in one cluster if a chain of near-duplicates, as `overlaps` counts them, joins them.
    """
    groups = Groups(len(texts))
    vocabulary = Vocabulary()
    first: dict[bytes, int] = {}
    distinct: list[Words] = []
    for number, words in enumerate(map(vocabulary.words, texts)):
        earlier = first.setdefault(words.tobytes(), number)
        groups.join(earlier, number)
        if earlier == number:
            distinct.append(words)
    _join_similar(_shingle_sets(distinct, len(vocabulary)), list(first.values()), groups, threshold)
    return groups.numbers()


def _join_similar(sets: _Sets, numbers: Sequence[int], groups: Groups, threshold: float) -> None:
    """Joins the groups of all sets that are similar; `numbers` names every set's item in `groups`.

    Sets come from small to large. A shingle's list holds its sets so far, bundled by group: a bundle whose group the
    new set has joined is passed over whole, so that a thousand copies of one text cost a thousand steps, not a million.
    """
    bundles: dict[int, list[list[int]]] = {}
    probes = sets.prefix(threshold)
    indexed = sets.prefix(2 * threshold / (1 + threshold))
    for later in np.argsort(sets.sizes, kind="stable").tolist():
        start = int(sets.starts[later])
        for shingle in sets.flat[start : start + int(probes[later])].tolist():
            for bundle in bundles.get(shingle, ()):
                for earlier in bundle:
                    if groups.find(numbers[earlier]) == groups.find(numbers[later]):
                        break
                    if sets.similar(earlier, later, threshold):
                        groups.join(numbers[earlier], numbers[later])
        for shingle in sets.flat[start : start + int(indexed[later])].tolist():
            listed = bundles.setdefault(shingle, [])
            group = groups.find(numbers[later])
            for bundle in listed:
                if groups.find(numbers[bundle[0]]) == group:
                    bundle.append(later)
                    break
            else:
                listed.append([later])


@dataclass(frozen=True)
class _Sets:
    """Sets of shingles, each sorted from the rarest over all sets to the commonest.

    Attributes:
        flat: the shingles of all sets in a row, as ranks: 0 is the rarest. Those that stand only once in all texts are
            counted and left out: they come first in every order, and nothing can share them.
        starts, kept: where each set begins in `flat`, and how many of its shingles stand there.
        sizes: all shingles of each set.
    """

    flat: Ints
    starts: Ints
    kept: Ints
    sizes: Ints

    def __getitem__(self, number: int) -> Ints:
        start = int(self.starts[number])
        shingles: Ints = self.flat[start : start + int(self.kept[number])]
        return shingles

    def prefix(self, threshold: float) -> Ints:
        """How many of each set's shingles in `flat` are among its first |A| − ⌈t·|A|⌉ + 1."""
        needed = np.ceil(threshold * self.sizes - ROUNDING).astype(np.int64)
        prefix: Ints = np.maximum(self.kept - np.maximum(needed, 1) + 1, 0)
        return prefix

    def similar(self, first: int, second: int, threshold: float) -> bool:
        """Whether the Jaccard similarity |A∩B| / |A∪B| reaches the threshold."""
        sizes = int(self.sizes[first]), int(self.sizes[second])
        return are_similar(self[first], self[second], sizes, threshold)


def _shingle_sets(texts: Sequence[Words], vocabulary: int) -> _Sets:
    lengths = np.array([len(words) for words in texts], np.int64)
    words = np.concatenate([*texts, np.zeros(SHINGLE, np.int32)])
    owner = np.repeat(np.arange(len(texts)), lengths)
    inner = np.flatnonzero(owner[: 1 - SHINGLE] == owner[SHINGLE - 1 :])  # runs that do not reach into the next text
    runs = np.bincount(owner[inner], minlength=len(texts))
    starts = inner[_repeated(words, inner)]
    owner = owner[starts]
    alone = runs - np.bincount(owner, minlength=len(texts))
    shingle = _numbered_runs(words, starts, vocabulary)
    kinds = int(shingle.max(initial=0)) + 1
    owner, shingle = np.divmod(np.unique(owner * kinds + shingle), kinds)
    rank = np.empty(kinds, np.int64)
    rank[np.argsort(np.bincount(shingle, minlength=kinds), kind="stable")] = np.arange(kinds)
    flat = np.sort(owner * kinds + rank[shingle]) % kinds
    kept = np.bincount(owner, minlength=len(texts))
    return _Sets(flat, np.cumsum(kept) - kept, kept, kept + alone)


def _repeated(words: Words, starts: Ints) -> NDArray[np.bool_]:
    """Which of the runs that begin at `starts` stand elsewhere too; a collision of hashes may add one that does not."""
    hashes = np.zeros(len(starts), np.uint64)
    for offset in range(SHINGLE):
        hashes = mixed(hashes, words[starts + offset])
    ordered = np.sort(hashes)
    return np.isin(hashes, np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))


def _numbered_runs(words: Words, starts: Ints, vocabulary: int) -> Ints:
    """Equal numbers for equal runs of words, exactly: a hash could collide."""
    codes = np.zeros(len(starts), np.int64)
    for offset in range(SHINGLE):
        codes = np.unique(codes * vocabulary + words[starts + offset], return_inverse=True)[1]
    return codes


@dataclass(frozen=True)
class _Postings:
    """For every shingle, the sets that have it, of those that are searched.

    Attributes:
        owner, later: set, and how many of its shingles stand from there on, of every occurrence; occurrences in order
            of shingle.
        ends: shape (shingles + 1), where each shingle's occurrences end in them, after a leading 0.
        sizes: shingles of every set.
    """

    owner: Ints
    later: Ints
    ends: Ints
    sizes: Ints

    @classmethod
    def of(cls, sets: _Sets, skip: int) -> _Postings:
        """Postings of the sets from number `skip` on."""
        kept = sets.kept[skip:]
        flat = sets.flat[int(sets.kept[:skip].sum()) :]
        owner = np.repeat(np.arange(len(kept)), kept)
        later = np.repeat(np.cumsum(kept), kept) - np.arange(len(flat))
        order = np.argsort(flat, kind="stable")
        ends = np.cumsum(np.bincount(flat + 1, minlength=int(sets.flat.max(initial=0)) + 2))
        return cls(owner[order], later[order], ends, sets.sizes[skip:])

    def most_similar(self, ranked: Ints, size: int, threshold: float) -> tuple[int, float] | None:
        """The most similar set and its similarity, None if none reaches the threshold.

        Args:
            ranked: the set's shingles that stand elsewhere too, of `size` in all.
        """
        known = np.flatnonzero(self.ends[ranked + 1] > self.ends[ranked])
        probes = known[known <= len(ranked) - max(1, int(np.ceil(threshold * size - ROUNDING)))]
        if not len(probes) or not self._possible(ranked, probes, size, threshold):
            return None
        shared = np.bincount(self._occurrences(ranked[known], self.owner), minlength=len(self.sizes))
        similarity = shared / (size + self.sizes - shared)
        best = int(similarity.argmax())
        return (best, float(similarity[best])) if similarity[best] >= threshold - ROUNDING else None

    def _possible(self, ranked: Ints, probes: Ints, size: int, threshold: float) -> bool:
        """Whether a set shares early enough shingles: after the first shared one, only later ones can be shared."""
        owners = self._occurrences(ranked[probes], self.owner)
        theirs = self._occurrences(ranked[probes], self.later)
        remaining = np.repeat(len(ranked) - probes, self.ends[ranked[probes] + 1] - self.ends[ranked[probes]])
        owners, first = np.unique(owners, return_index=True)
        most = np.minimum(remaining[first], theirs[first])
        return bool((most >= threshold / (1 + threshold) * (size + self.sizes[owners]) - ROUNDING).any())

    def _occurrences(self, shingles: Ints, values: Ints) -> Ints:
        return np.concatenate([values[self.ends[shingle] : self.ends[shingle + 1]] for shingle in shingles])
