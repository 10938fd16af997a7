"""Finds the nearest of a list of texts: BM25, embeddings, or both joined by their ranks. Knows nothing of documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import bm25s  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Embed = Callable[[Sequence[str], bool], Floats]  # (texts, whether they search) → one unit vector each

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # scripts written without spaces
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_RANK_OFFSET = 60  # k of reciprocal rank fusion, as its authors set it


class Index(Protocol):
    """Texts that can be searched."""

    def nearest(self, query: str, k: int) -> list[int]:
        """Numbers of the k nearest texts, the nearest first; of equals the earlier first."""


class Bm25Index:
    """BM25 in Lucene's form (Kamphuis et al. 2020) over lower-cased words, or characters in scripts without spaces.

    Texts that share no word with the query come last.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._size = len(texts)
        self._bm25 = bm25s.BM25(method="lucene")
        tokens = [_words(text) for text in texts]
        self._empty = not any(tokens)
        if not self._empty:
            self._bm25.index(tokens, show_progress=False)

    def nearest(self, query: str, k: int) -> list[int]:
        words = _words(query)
        if self._empty or not words:
            return list(range(min(k, self._size)))
        return _first(np.asarray(self._bm25.get_scores(words), dtype=np.float64), k)


class EmbeddingIndex:
    """Cosine similarity of embeddings."""

    def __init__(self, texts: Sequence[str], embed: Embed) -> None:
        self._embed = embed
        self._vectors = embed(texts, False)

    def nearest(self, query: str, k: int) -> list[int]:
        return _first(self._vectors @ self._embed([query], True)[0], k)


class FusedIndex:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009) of two indices."""

    def __init__(self, first: Index, second: Index, size: int) -> None:
        self._indices, self._size = (first, second), size

    def nearest(self, query: str, k: int) -> list[int]:
        scores = np.zeros(self._size)
        for index in self._indices:
            for rank, number in enumerate(index.nearest(query, self._size)):
                scores[number] += 1 / (_RANK_OFFSET + rank + 1)
        return _first(scores, k)


def _first(scores: Floats, k: int) -> list[int]:
    return [int(number) for number in np.argsort(-np.round(scores, 6), kind="stable")[:k]]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
