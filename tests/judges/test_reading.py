"""What judges write, and what may be read from it."""

from __future__ import annotations

import math

import pytest

from fairlead.judges.reading import expected_score, is_refusal, read_score, read_side

SCORES = [
    ("8/10", 8),
    ("Rating: 9.5", 9.5),
    ("**9**", 9),
    ("9", 9),
    (" 10. ", 10),
    ("[[7]]", 7),
    ("Score: 8/10", 8),
    ("**Score:** 8", 8),
    ("Score: **8**", 8),
    ("Score - 8", 8),
    ("8 out of 10", 8),
    ("I would rate this answer an 8 out of 10.", 8),
    ("I'd give it a 7.", 7),
    ("This answer deserves a 6.", 6),
    ("Final rating is 7.5 because it is short.", 7.5),
    ("8,5/10", 8.5),
    ("10/10", 10),
    ("1/10", 1),
    ('{"score": 7}', 7),
    ('{"reason": "3 errors in 10 lines", "score": 4}', 4),
    ('Here you are:\n```json\n{"Score": "8/10"}\n```\nThank you.', 8),
    ('{"rating": 9.5}', 9.5),
    ('{"a": {"score": 3}} then {"score": 6}', 6),
    ("There are 2 mistakes in 5 sentences, both small.\n\nScore: 6", 6),
    ("<think>Maybe 3? No: score: 4.</think>\nRating: 8", 8),
    ("Correctness: 7/10\nStyle: 9/10\nOverall: 8/10", 8),
    ("Bewertung: 8/10", 8),
    ("The answer names 3 of 4 causes. On the whole I score it 7.", 7),
]


@pytest.mark.parametrize(("text", "score"), SCORES)
def test_a_score_is_read(text: str, score: float) -> None:
    assert read_score(text) == score


NO_SCORES = [
    "",
    "   ",
    "I'm sorry, but I can't rate this.",
    "The answer has 3 errors.",
    "Written in 2024, it cites 5 sources.",
    "85/100",
    "4/5",
    "Score: 85%",
    "Score: 0",
    "11/10",
    "Score: 100",
    "Score: -5",
    "7-8/10",
    "Score: 7 to 8",
    "Correctness 7/10 and style 9/10.",
    '{"score": 85}',
    '{"score": null}',
    '{"score": true}',
    '{"score": NaN}',
    '{"score": [8]}',
    '{"score": "high"} Score: 8',
    "<think>The score: 8 seems right",
    "Error 500: internal server error",
    "Die Antwort ist gut.",
    "10 reasons why: many",
    "What could be better:\n1.\n2.",
    "I would not give this a passing mark.",
]


@pytest.mark.parametrize("text", NO_SCORES)
def test_what_is_no_score_is_none(text: str) -> None:
    assert read_score(text) is None


def test_a_cut_reply_is_believed_only_where_its_json_is_complete() -> None:
    assert read_score("Score: 1", cut=True) is None
    assert read_score('{"reason": "good", "score": 1', cut=True) is None
    assert read_score('{"score": 10} and further', cut=True) == 10
    assert read_side("Verdict: A", cut=True) is None
    assert read_side('{"verdict": "B"} and further', cut=True) == "B"


SIDES = [
    ("A", "A"),
    ("B.", "B"),
    ("**B**", "B"),
    ("[[A]]", "A"),
    ("[[C]]", "tie"),
    ("Tie", "tie"),
    ("Answer A", "A"),
    ("Response B", "B"),
    ("(a)", "A"),
    ('{"verdict": "A"}', "A"),
    ('{"reason": "B is longer", "verdict": "A"}', "A"),
    ('{"winner": "Answer B"}', "B"),
    ('{"verdict": "tie"}', "tie"),
    ('```json\n{"Verdict": "b"}\n```', "B"),
    ("Verdict: A", "A"),
    ("**Verdict:** B", "B"),
    ("Verdict: **Answer B**", "B"),
    ("My final verdict is [[B]].", "B"),
    ("The winner is A.", "A"),
    ("Answer A is clearly better because it is right.", "A"),
    ("Response B is the better one.", "B"),
    ("I prefer Answer B.", "B"),
    ("Both answers are equally good.", "tie"),
    ("A names a cause that B lacks.\n\nAnswer: A", "A"),
    ("<think>B? B is better. Verdict: B</think>Verdict: A", "A"),
    ("Answer B wins.", "B"),
]


@pytest.mark.parametrize(("text", "side"), SIDES)
def test_a_side_is_read(text: str, side: str) -> None:
    assert read_side(text) == side


NO_SIDES = [
    "",
    "I'm sorry, I can't compare these.",
    "A good question.",
    "Die erste Antwort ist besser.",
    "1",
    "[[A]] or [[B]]",
    "Answer A is not better than Answer B.",
    "Answer A is better in style. Answer B is better in substance.",
    '{"verdict": "both A and B"}',
    '{"verdict": 1}',
    '{"verdict": null} Verdict: A',
    "Verdict: unclear",
    "Verdict: A. On reflection, verdict: B",
    "<think>A is better",
    "HTTP 402 Payment Required",
    "A person asked for B vitamins.",
    "A\nB is longer, though, and I am torn.",
]


@pytest.mark.parametrize("text", NO_SIDES)
def test_what_names_no_side_is_none(text: str) -> None:
    assert read_side(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I cannot judge these answers.",
        "I am unable to rate content of this kind.",
        "Sorry, I won't compare these.",
        "As an AI, I am not able to evaluate this.",
        "Unfortunately, I cannot help.",
    ],
)
def test_a_refusal_is_recognised(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", ["Answer A says sorry but I can see it is better.", "", "The model cannot count."])
def test_what_only_mentions_refusing_is_none(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize("text", ["(" * 5000 + "8", "score " * 3000, "{" * 3000, "A " * 5000, "1" * 20000, "a" * 20000])
def test_hostile_replies_come_to_an_end(text: str) -> None:
    read_score(text)
    read_side(text)
    is_refusal(text)


def probabilities(**shares: float) -> list[tuple[str, float]]:
    return [(token.removeprefix("n"), math.log(share)) for token, share in shares.items()]


def test_the_expected_score_is_the_mean_over_the_alternatives() -> None:
    tokens = [('{"score": ', [('{"score": ', 0.0)]), ("8", probabilities(n8=0.5, n6=0.25, x=0.25)), ("}", [("}", 0.0)])]
    assert expected_score(tokens) == pytest.approx((8 * 0.5 + 6 * 0.25) / 0.75)


def test_no_expected_score_from_a_number_of_several_tokens_or_too_little_mass() -> None:
    split = [("1", probabilities(n1=0.9)), ("0", probabilities(n0=1.0))]
    assert expected_score(split) is None
    assert expected_score([("8", probabilities(n8=0.3, x=0.7))]) is None
    assert expected_score([("good", probabilities(good=1.0))]) is None
    assert expected_score([]) is None
