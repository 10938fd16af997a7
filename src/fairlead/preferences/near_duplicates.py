"""Which texts say nearly the same: equality after normalising, or Jaccard similarity of their 5-word shingles.

The search is exact. Prefix filtering (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007): with the
shingles of every set sorted from rare to common, two sets A and B with |A∩B| / |A∪B| ≥ t share at least one of the
first |A| − ⌈t·|A|⌉ + 1 shingles of A and the first |B| − ⌈t·|B|⌉ + 1 of B. Only those are indexed, so boilerplate that
thousands of texts share costs little, and every candidate is then verified on the whole sets. No sampling, no seed.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from fairlead.records import Prompt

SHINGLE = 5  # words

_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
_EDGES = ".,;:!?\"'`()[]{}«»“”‘’…。、「」"  # sentence punctuation; operators such as + and * make a difference
_ROUNDING = 1e-9


def overlaps(texts: Sequence[str], against: Sequence[str], threshold: float) -> dict[int, tuple[int, float]]:
    """The texts that repeat one of `against`, exactly or nearly.

    Args:
        threshold: Jaccard similarity of 5-word shingles, in (0, 1], from which two texts count as near-duplicates.
            Texts of fewer than five words count only when they are equal after normalising.

    Returns:
        index in `texts` → (index in `against` of the most similar text, the first of equals; its similarity).
        Texts that are equal after normalising have similarity 1.
    """
    words = [_words(text) for text in texts]
    other = [_words(text) for text in against]
    first_equal = {key: index for index, key in reversed(list(enumerate(other)))}
    found = {index: (first_equal[key], 1.0) for index, key in enumerate(words) if key in first_equal}
    left = [index for index in range(len(words)) if index not in found]
    sets = _ranked([words[index] for index in left] + other)
    own, theirs = sets[: len(left)], sets[len(left) :]
    index_of: dict[int, list[int]] = {}
    for number, ranked in enumerate(theirs):
        for shingle in _prefix(ranked, threshold):
            index_of.setdefault(shingle, []).append(number)
    if not any(theirs):
        return found
    incidence = _incidence(theirs)
    sizes = np.array([len(ranked) for ranked in theirs])
    for position, ranked in zip(left, own, strict=True):
        candidates = sorted({n for shingle in _prefix(ranked, threshold) for n in index_of.get(shingle, ())})
        if candidates:
            known = [shingle for shingle in ranked if shingle < incidence.shape[0]]
            shared = np.bincount(incidence[known].indices, minlength=len(theirs))[candidates]
            similarity = shared / (len(ranked) + sizes[candidates] - shared)
            best = int(similarity.argmax())
            if similarity[best] >= threshold - _ROUNDING:
                found[position] = candidates[best], float(similarity[best])
    return dict(sorted(found.items()))


def clusters(texts: Sequence[str], threshold: float) -> list[int]:
    """Cluster number of every text, from 0 in order of first appearance.

    Two texts are in one cluster if a chain of near-duplicates, as `overlaps` counts them, joins them.
    """
    groups = Groups(len(texts))
    first: dict[tuple[str, ...], int] = {}
    for number, words in enumerate(_words(text) for text in texts):
        groups.join(first.setdefault(words, number), number)
    sets = _ranked(list(first))
    members = [frozenset(ranked) for ranked in sets]
    numbers = list(first.values())
    index_of: dict[int, list[int]] = {}
    for later, ranked in enumerate(sets):
        prefix = _prefix(ranked, threshold)
        for earlier in {number for shingle in prefix for number in index_of.get(shingle, ())}:
            joined = groups.find(numbers[earlier]) == groups.find(numbers[later])
            if not joined and _similarity(members[earlier], members[later], threshold) is not None:
                groups.join(numbers[earlier], numbers[later])
        for shingle in prefix:
            index_of.setdefault(shingle, []).append(later)
    return groups.numbers()


def asked(prompt: Prompt) -> str:
    """What a prompt asks, without the system turns.

    A long instruction that every prompt carries would make all of them near-duplicates of each other.
    """
    turns = tuple(message for message in prompt.messages if message.role != "system")
    return Prompt(turns or prompt.messages).text


class Groups:
    """Disjoint sets of the numbers 0 to n − 1 (union-find)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def find(self, item: int) -> int:
        """The smallest number in the group of `item`."""
        root = item
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[item] != root:
            self._parent[item], item = root, self._parent[item]
        return root

    def join(self, first: int, second: int) -> None:
        a, b = self.find(first), self.find(second)
        self._parent[max(a, b)] = min(a, b)

    def numbers(self) -> list[int]:
        """Group number of every item, from 0 in order of first appearance."""
        seen: dict[int, int] = {}
        return [seen.setdefault(self.find(item), len(seen)) for item in range(len(self._parent))]


def _words(text: str) -> tuple[str, ...]:
    """Case-folded words without the punctuation around them; a character of a script without spaces is a word."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    spaced = (folded if folded.isascii() else _UNSPACED.sub(r" \1 ", folded)).split()
    return tuple(filter(None, (word.strip(_EDGES) for word in spaced))) or tuple(spaced)


def _ranked(texts: Sequence[tuple[str, ...]]) -> list[list[int]]:
    """The distinct shingles of every text as numbers, ascending from the rarest over all texts to the commonest."""
    vocabulary: dict[str, int] = {}
    ids = np.array([vocabulary.setdefault(word, len(vocabulary)) for words in texts for word in words], np.int64)
    text_of = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
    if len(ids) < SHINGLE:
        return [[] for _ in texts]
    codes = ids  # codes[i] numbers the distinct runs of words i … i + last; exact, where a hash could collide
    for last in range(1, SHINGLE):
        codes = np.unique(codes[:-1] * len(vocabulary) + ids[last:], return_inverse=True)[1]
    whole = text_of[: len(codes)] == text_of[SHINGLE - 1 :]
    kinds = int(codes.max()) + 1
    owner, shingle = np.divmod(np.unique(text_of[: len(codes)][whole] * kinds + codes[whole]), kinds)
    rank = np.empty(kinds, np.int64)
    rank[np.argsort(np.bincount(shingle, minlength=kinds), kind="stable")] = np.arange(kinds)
    ordered = np.sort(owner * kinds + rank[shingle]) % kinds
    ends = np.cumsum(np.bincount(owner, minlength=len(texts)))
    return [part.tolist() for part in np.split(ordered, ends[:-1])]


def _prefix(ranked: Sequence[int], threshold: float) -> Sequence[int]:
    needed = max(1, math.ceil(threshold * len(ranked) - _ROUNDING))
    return ranked[: len(ranked) - needed + 1] if ranked else ranked


def _incidence(sets: Sequence[Sequence[int]]) -> csr_array:
    """Shape (shingles, sets): 1 where the set has the shingle."""
    shingles = np.array([shingle for ranked in sets for shingle in ranked], np.int64)
    owners = np.repeat(np.arange(len(sets)), [len(ranked) for ranked in sets])
    return csr_array((np.ones(len(shingles), np.int8), (shingles, owners)))


def _similarity(a: frozenset[int], b: frozenset[int], threshold: float) -> float | None:
    """Jaccard similarity |A∩B| / |A∪B|, None below the threshold."""
    if min(len(a), len(b)) < threshold * max(len(a), len(b)) - _ROUNDING:
        return None
    shared = len(a & b)
    similarity = shared / (len(a) + len(b) - shared)
    return similarity if similarity >= threshold - _ROUNDING else None
