"""What near-duplicates, loops and topics are made of: words as numbers, runs of words, and groups of texts."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from fairlead.records import Prompt

SHINGLE = 5  # words
ROUNDING = 1e-9  # below which two similarities are equal

_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
_EDGES = ".,;:!?\"'`()[]{}«»“”‘’…。、「」"  # sentence punctuation; operators such as + and * make a difference
_NO_WORD = -1
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, bits well mixed: 2⁶⁴ / golden ratio

Words = NDArray[np.int32]
Hashes = NDArray[np.uint64]


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


class Vocabulary(dict[str, int]):
    """Numbers for words: equal numbers for words that differ only in the punctuation around them.

    Attributes:
        bare: the words without it, in the order of their numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bare: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.bare)

    def __missing__(self, word: str) -> int:
        bare = word.strip(_EDGES)
        number = self[word] = self.bare.setdefault(bare, len(self.bare)) if bare else _NO_WORD
        return number

    def words(self, text: str) -> Words:
        """The case-folded words of a text; a character of a script without spaces is a word.

        Punctuation that stands alone is no word, unless the text has nothing else.
        """
        folded = unicodedata.normalize("NFKC", text).casefold()
        spaced = (folded if folded.isascii() else _UNSPACED.sub(r" \1 ", folded)).split()
        numbers = [number for number in map(self.__getitem__, spaced) if number != _NO_WORD]
        if numbers or not spaced:
            return np.array(numbers, np.int32)
        return np.array([self.bare.setdefault(word, len(self.bare)) for word in spaced], np.int32)


def mixed(hashes: Hashes, values: NDArray[np.integer]) -> Hashes:
    """Hashes of sequences that are one value longer."""
    longer = (hashes ^ values.astype(np.uint64)) * _MIX
    longer ^= longer >> np.uint64(29)
    return longer


def are_similar(
    first: NDArray[np.generic], second: NDArray[np.generic], sizes: tuple[int, int], threshold: float
) -> bool:
    """Whether the Jaccard similarity |A∩B| / |A∪B| of two sets reaches the threshold.

    Args:
        first, second: the members that the sets can share.
        sizes: all members of each set.
    """
    small, large = sorted(sizes)
    if small < threshold * large - ROUNDING:
        return False
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared >= threshold * (small + large - shared) - ROUNDING
