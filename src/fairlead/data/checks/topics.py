"""What prompts are about: topics by k-means on the directions of their words, weighted by how rare the words are."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from fairlead.records import Prompt
from fairlead.text.words import Vocabulary

_SAMPLE = 4000  # prompts that are looked at
_WIDTH = 256
_ROUNDS = 15

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Topics:
    """Prompts per topic.

    Attributes:
        sizes: share of the prompts of each topic, by name, the largest first.
        effective: exp of the entropy of the shares: how many topics of equal size are as diverse.
        declared: whether the rows themselves name their clusters.
    """

    sizes: dict[str, float]
    effective: float
    declared: bool


def topics_of(prompts: Sequence[Prompt], texts: Sequence[str], seed: int = 0) -> Topics:
    """Topics of distinct prompts: the clusters that the rows name, where there are several, else found by words.

    Args:
        texts: of each prompt, what it asks.
    """
    declared = Counter(prompt.cluster for prompt in prompts if prompt.cluster)
    if len(declared) > 1:
        return _topics(declared, declared=True)
    step = max(1, len(texts) // _SAMPLE)
    return _topics(_found_by_words(texts[::step][:_SAMPLE], seed), declared=False)


def _topics(counts: Counter[str], *, declared: bool) -> Topics:
    total = counts.total()
    shares = np.array([count / total for count in counts.values()]) if total else np.ones(1)
    effective = float(np.exp(-(shares * np.log(shares)).sum()))
    return Topics({name: count / total for name, count in counts.most_common()}, effective, declared)


def _found_by_words(texts: Sequence[str], seed: int) -> Counter[str]:
    vocabulary = Vocabulary()
    words = [np.unique(vocabulary.words(text)) for text in texts]
    frequency = np.bincount(np.concatenate([*words, np.zeros(0, np.int64)]).astype(np.int64), minlength=len(vocabulary))
    rarity = np.log((1 + len(texts)) / (1 + frequency)).astype(np.float32)
    rarity[frequency < 2] = 0.0  # a word of one prompt joins it to no other
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal((max(1, len(vocabulary)), _WIDTH), dtype=np.float32)
    vectors = (
        np.stack([rarity[numbers] @ directions[numbers] for numbers in words])
        if words
        else np.zeros((0, _WIDTH), np.float32)
    )
    count = min(20, max(1, int(np.sqrt(len(texts) / 2))))
    labels = _clustered(_unit(vectors), count, generator)
    names = list(vocabulary.bare)
    return Counter(
        {_name(label, labels, words, rarity, names): size for label, size in Counter(labels.tolist()).items()}
    )


def _clustered(vectors: Vectors, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Cluster of every unit vector, by k-means from centres that lie far apart (Arthur & Vassilvitskii 2007)."""
    count = min(count, len(np.unique(vectors, axis=0)))
    if count < 2:
        return np.zeros(len(vectors), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cluster may lose all its prompts: there is one topic less
        _, labels = kmeans2(vectors, count, iter=_ROUNDS, minit="++", seed=generator)
    return np.asarray(labels, np.int64)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, np.where(lengths > 0, lengths, 1), dtype=np.float32)


def _name(
    label: int, labels: NDArray[np.int64], words: Sequence[NDArray[np.int32]], rarity: Vectors, names: Sequence[str]
) -> str:
    """The three words that tell a topic best from the others, with its number."""
    weights = np.zeros(len(rarity), np.float32)
    for member in np.flatnonzero(labels == label).tolist():
        weights[words[member]] += rarity[words[member]]
    best = np.argsort(-weights, kind="stable")[:3]
    return f"{label + 1}: " + " ".join(names[word] for word in best if weights[word] > 0)
