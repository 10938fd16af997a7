"""MinHash finds what the exact search finds, and nothing that is not similar."""

from __future__ import annotations

import random

from fairlead.text.minhash import MinHashIndex
from fairlead.text.near_duplicates import clusters
from fairlead.text.words import Vocabulary


def clustered(texts: list[str], threshold: float = 0.8, portion: int = 3) -> list[int]:
    vocabulary, index = Vocabulary(), MinHashIndex(threshold)
    for start in range(0, len(texts), portion):
        index.add([vocabulary.words(text) for text in texts[start : start + portion]])
    return index.clusters()


def words(count: int, seed: int) -> list[str]:
    chosen = random.Random(seed)
    return [f"w{chosen.randrange(5000)}" for _ in range(count)]


def changed(text: list[str], places: int, seed: int) -> list[str]:
    text, chosen = list(text), random.Random(seed)
    for place in chosen.sample(range(len(text)), places):
        text[place] = f"new{chosen.randrange(10**6)}"
    return text


def test_equal_and_nearly_equal_texts_are_one_cluster_across_portions() -> None:
    base = words(200, 0)
    texts = [" ".join(text) for text in (base, words(200, 1), words(200, 2), changed(base, 2, 3), base)]
    assert clustered(texts) == [0, 1, 2, 0, 0]


def test_what_is_not_similar_is_never_joined() -> None:
    base = words(200, 0)
    assert clustered([" ".join(base), " ".join(changed(base, 12, 1))]) == [0, 1]  # similarity about 0.55
    assert clustered([" ".join(base), " ".join(base + words(60, 1))]) == [0, 1]


def test_the_clusters_are_those_of_the_exact_search() -> None:
    texts = []
    for seed in range(40):
        base = words(120, seed)
        texts += [" ".join(base)] + [" ".join(changed(base, n, 100 * seed + n)) for n in (1, 2, 6)]
    random.Random(5).shuffle(texts)
    assert clustered(texts, portion=64) == clusters(texts, 0.8)


def test_texts_of_fewer_than_five_words_match_only_their_equals() -> None:
    assert clustered(["a b c", "a b", "A  b c", "a b c d", "", " "]) == [0, 1, 0, 2, 3, 3]


def test_no_text_makes_no_cluster() -> None:
    assert clustered([]) == []


def test_twenty_thousand_copies_are_one_cluster_within_seconds() -> None:
    copy = " ".join(words(100, 0))
    assert set(clustered([copy] * 20_000, portion=2000)) == {0}
