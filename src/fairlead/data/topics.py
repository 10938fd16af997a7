"""What prompts are about: topic clusters by spherical k-means on words weighted by how rare they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairlead.records import Prompt
from fairlead.text.near_duplicates import Vocabulary

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
    return _topics(_found(texts[::step][:_SAMPLE], seed), declared=False)


def _topics(counts: Counter[str], *, declared: bool) -> Topics:
    total = counts.total()
    shares = np.array([count / total for count in counts.values()]) if total else np.ones(1)
    effective = float(np.exp(-(shares * np.log(shares)).sum()))
    return Topics({name: count / total for name, count in counts.most_common()}, effective, declared)


def _found(texts: Sequence[str], seed: int) -> Counter[str]:
    vocabulary = Vocabulary()
    words = [np.unique(vocabulary.words(text)) for text in texts]
    frequency = np.bincount(np.concatenate([*words, np.zeros(0, np.int64)]).astype(np.int64), minlength=len(vocabulary))
    rarity = np.log((1 + len(texts)) / (1 + frequency)).astype(np.float32)
    rarity[frequency < 2] = 0.0  # a word of one prompt joins it to no other
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal((max(1, len(vocabulary)), _WIDTH), dtype=np.float32)
    vectors = np.stack([rarity[own] @ directions[own] for own in words]) if words else np.zeros((0, _WIDTH), np.float32)
    count = min(20, max(1, int(np.sqrt(len(texts) / 2))))
    labels = _k_means(_unit(vectors), count, generator)
    names = list(vocabulary.bare)
    return Counter(
        {_name(label, labels, words, rarity, names): size for label, size in Counter(labels.tolist()).items()}
    )


def _k_means(vectors: Vectors, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Cluster of every unit vector; the first centres lie far apart (k-means++, Arthur & Vassilvitskii 2007)."""
    if not len(vectors):
        return np.zeros(0, np.int64)
    centres = vectors[[int(generator.integers(len(vectors)))]]
    for _ in range(count - 1):
        distance = np.clip(1 - (vectors @ centres.T).max(axis=1), 0, None).astype(np.float64)
        if distance.sum() <= 1e-6:
            break
        centres = np.vstack([centres, vectors[generator.choice(len(vectors), p=distance / distance.sum())]])
    for _ in range(_ROUNDS):
        labels = (vectors @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, vectors)
        centres = np.where(np.bincount(labels, minlength=len(centres))[:, None] > 0, _unit(sums), centres)
    found: NDArray[np.int64] = (vectors @ centres.T).argmax(axis=1)
    return found


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
