from __future__ import annotations

import itertools
import random

import pytest

from fairlead.records import Message, Prompt
from fairlead.text.near_duplicates import clusters, overlaps
from fairlead.text.words import Groups, asked

TEN = "one two three four five six seven eight nine ten"


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def jaccard(a: str, b: str) -> float:
    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def test_equal_texts_have_similarity_one_whatever_case_spacing_and_punctuation() -> None:
    assert overlaps(["Is it  down?", "is it up"], ["is it DOWN"], 0.8) == {0: (0, 1.0)}


def test_operators_make_a_difference() -> None:
    assert overlaps(["what is 3 + 4"], ["what is 3 * 4"], 0.8) == {}


def test_punctuation_alone_is_not_one_text() -> None:
    assert overlaps(["???", "..."], ["..."], 0.8) == {1: (0, 1.0)}


def test_the_similarity_is_the_jaccard_of_five_word_shingles() -> None:
    # six shingles each, of which the five that do not reach the last word are shared: 5 / 7
    changed = TEN.replace("ten", "eleven")
    assert overlaps([changed], [TEN], 0.7) == {0: (0, pytest.approx(5 / 7))}
    assert overlaps([changed], [TEN], 0.72) == {}


def test_a_similarity_at_the_threshold_counts() -> None:
    assert overlaps([TEN + " eleven"], [TEN], 6 / 7) == {0: (0, pytest.approx(6 / 7))}


def test_the_most_similar_text_is_named() -> None:
    assert overlaps([TEN], ["nothing", TEN + " eleven twelve", TEN + " eleven"], 0.5)[0][0] == 2


def test_texts_under_five_words_match_only_when_equal() -> None:
    assert overlaps(["the cat sat down"], ["the cat sat up"], 0.1) == {}


def test_shared_boilerplate_alone_makes_no_near_duplicates() -> None:
    boilerplate = "an alert came in please triage it and answer in one line"
    texts = [f"{boilerplate} service a{n} b{n} c{n} d{n} e{n} f{n} g{n} h{n} i{n} j{n}" for n in range(50)]
    assert overlaps(texts[:25], texts[25:], 0.8) == {}
    assert clusters(texts, 0.8) == list(range(50))


def test_scripts_without_spaces_are_compared_by_character() -> None:
    text = "我们的服务器昨天晚上突然停止了响应"
    assert overlaps([text + "吗"], [text], 0.8) == {0: (0, pytest.approx(13 / 14))}


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8, 1.0])
def test_search_finds_exactly_what_comparing_all_pairs_finds(threshold: float) -> None:
    draw = random.Random(3)
    base = [draw.choices("abcdefgh", k=draw.randint(5, 40)) for _ in range(12)]
    texts = []
    for _ in range(80):
        words = list(draw.choice(base))
        for _ in range(draw.randint(0, 3)):
            words[draw.randrange(len(words))] = draw.choice("abcdefgh")
        texts.append(" ".join(words))
    left, right = texts[:40], texts[40:]
    expected = {}
    for i, text in enumerate(left):
        best = max(jaccard(text, other) for other in right)
        if best >= threshold:
            expected[i] = pytest.approx(best)
    assert {i: similarity for i, (_, similarity) in overlaps(left, right, threshold).items()} == expected
    groups = Groups(len(texts))
    for i, j in itertools.combinations(range(len(texts)), 2):
        if jaccard(texts[i], texts[j]) >= threshold:
            groups.join(i, j)
    assert clusters(texts, threshold) == groups.numbers()


def test_a_chain_of_near_duplicates_is_one_cluster() -> None:
    words = [f"w{n}" for n in range(40)]
    chain = [" ".join(words[start : start + 30]) for start in (0, 2, 4)]
    assert jaccard(chain[0], chain[2]) < 0.8 <= jaccard(chain[0], chain[1])
    assert clusters([chain[0], "another", chain[2], chain[1]], 0.8) == [0, 1, 0, 0]


def test_nothing_against_nothing() -> None:
    assert overlaps([], ["a"], 0.8) == {}
    assert overlaps(["a"], [], 0.8) == {}
    assert clusters([], 0.8) == []


def test_what_is_asked_leaves_the_system_turn_out() -> None:
    system = Message("system", "a very long instruction")
    assert asked(Prompt((system, Message("user", "hi")))) == "hi"
    assert asked(Prompt((system,))) == "a very long instruction"


@pytest.mark.timeout(60)  # comparing every pair takes many minutes
def test_three_thousand_against_three_thousand_takes_seconds() -> None:
    draw = random.Random(0)
    words = [f"w{n}" for n in range(3000)]
    texts = ["please triage this incident report " + " ".join(draw.choices(words, k=80)) for _ in range(6000)]
    assert overlaps(texts[:3000], texts[3000:], 0.8) == {}


@pytest.mark.timeout(60)  # comparing every pair takes many minutes
@pytest.mark.parametrize("blanks", [1, 2])
def test_a_template_with_few_blanks_takes_seconds(blanks: int) -> None:
    # one blank changes 5 of 46 shingles: similarity 41/51; two side by side change 6 of 47: 41/53
    frame = [f"w{n}" for n in range(49)]
    texts = [
        " ".join([*frame[:24], *(f"x{number * blanks + blank}" for blank in range(blanks)), *frame[24:]])
        for number in range(4000)
    ]
    count = len(set(clusters(texts, 0.8)))
    assert count == (1 if blanks == 1 else 4000)


def test_long_and_short_copies_of_a_repeated_phrase_are_compared_by_distinct_shingles() -> None:
    once, often = "one two three four five six", "one two three four five six " * 3
    # {1-5, 2-6} against the six rotations: 2 / 6
    assert overlaps([once], [often], 0.3) == {0: (0, pytest.approx(2 / 6))}
