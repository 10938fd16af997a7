"""Loops and variety of texts, of their words and of sampled tokens."""

from __future__ import annotations

import pytest

from fairlead.text.repetition import distinct_n, ends_in_loop, has_loop, texts_with_loops, tokens_loop
from fairlead.text.words import Vocabulary

SENTENCE = "The database of the order service has run out of connections and needs more room"


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [
        ([5] * 12, True),
        ([5] * 11, False),
        ([1, 2, 3] * 4, True),
        ([1, 2, 3] * 3, False),
        ([9, 8, *([1, 2, 3, 4] * 4), 7], True),
        (list(range(60)), False),
        ([1, 2] * 5 + [3] + [1, 2] * 5, False),
        ([], False),
    ],
)
def test_a_loop_is_a_block_that_stands_back_to_back(tokens: list[int], loops: bool) -> None:
    assert tokens_loop(tokens) is loops


def test_distinct_n_counts_over_all_samples() -> None:
    assert distinct_n([[1, 2, 1], [1, 2]], 2) == pytest.approx(2 / 3)
    assert distinct_n([[1], []], 2) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The disk is full. " * 12, True),
        ("na" * 20, True),
        ("I am sorry, " * 4, True),
        ("severity: high | service: db | summary: full disk", False),
        ("ha ha ha", False),
        ("-" * 10, False),
        ("Done.\n\n" + "-" * 40, False),
        ("| a | b |\n|" + "-----|" * 6, False),
        ("Done.\n" + "-" * 400, True),
        ("", False),
        (" ".join(f"step {n}" for n in range(60)), False),
        ("the disk is full and " * 3 + "so " + "the disk is full and " * 9 + "on.", True),
    ],
)
def test_loops_are_told_from_lists(text, expected):
    assert ends_in_loop(text) is expected


def loops(*texts: str) -> list[bool]:
    vocabulary = Vocabulary()
    return texts_with_loops(texts, [vocabulary.words(text) for text in texts]).tolist()


def test_a_text_that_ends_in_rounds_of_the_same_words_loops() -> None:
    once, longest = "the disk is full. ", " ".join(f"w{n}" for n in range(24)) + " "
    assert loops("Well, " + once * 4, "yes " * 12, longest * 4, "a" * 60) == [True, True, True, True]


def test_a_loop_in_the_middle_of_a_text_is_found() -> None:
    once = "the disk is full. "
    longest = " ".join(f"w{n}" for n in range(24)) + " "
    repeated = loops(SENTENCE + ". " + once * 6 + SENTENCE, SENTENCE, "x " + longest * 4 + SENTENCE, *[SENTENCE] * 3)
    assert repeated == [True, False, True, False, False, False]


@pytest.mark.parametrize("before", range(25))
def test_a_loop_is_found_wherever_it_stands(before: int) -> None:
    lead = " ".join(f"lead{n}" for n in range(before))
    for period in (1, 3, 11, 24):
        rounds = " ".join(f"p{n}" for n in range(period)) + " "
        assert loops(SENTENCE, f"{lead} {rounds * max(4, 12 // period + 1)} end") == [False, True]
        assert loops(SENTENCE, f"{lead} {rounds * 3} end") == [False, False]


def test_repetition_that_is_short_is_no_loop() -> None:
    once = "the disk is full. "
    rule = "-" * 200
    poem = "row row row your boat gently down the stream merrily merrily merrily merrily life is but a dream"
    assert loops(once * 2, once * 3 + SENTENCE, "no no no no", rule, poem, "") == [False] * 6


def test_a_loop_at_the_end_only_is_told_from_one_before_it() -> None:
    assert has_loop([9, 1, 2, 1, 2, 1, 2], longest=4, rounds=3, at_end=True)
    assert has_loop([1, 2, 1, 2, 1, 2, 9], longest=4, rounds=3)
    assert not has_loop([1, 2, 1, 2, 1, 2, 9], longest=4, rounds=3, at_end=True)
    assert has_loop([1, 2, 1, 2, 1], longest=4, rounds=3, missing=1, at_end=True)
    assert not has_loop([1, 2, 1, 2, 1], longest=4, rounds=3)
