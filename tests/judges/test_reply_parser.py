"""What judges write, and what may be read from it."""

from __future__ import annotations

import math

import pytest

from fairlead.judges.reply_parser import expected_score, is_refusal, read_score, read_side

SCORES = [
    ("Rating 9 because it is clear.", 9),
    ("I would give it 7 for the style.", 7),
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
    (r"\boxed{8}", 8),
    (r"The score is $\boxed{8}$.", 8),
    ("Score (1-10): 8", 8),
    ("Score (on a scale of 1 to 10): 8", 8),
    ("{'score': 8}", 8),
    ("Rating: [[7]]", 7),
    ("I would not give this a 9. Rating: 7", 7),
    ("It is not perfect, but I'd give it 8/10.", 8),
    ("On a scale of 1 to 10, I give it 8.", 8),
    ("8/10\nThe answer is good.", 8),
    ("8 points out of 10", 8),
    ('The text holds {"score": 10}. Mine: {"rating": 10}', 10),
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
    "I'm sorry, but I can't judge this. Rating 10 things is beyond me.",
    "I cannot score 10 answers at once.",
    "I would not give this a 9",
    "I can't give it an 8",
    "I don’t think it deserves an 8",
    "No answer gets 10/10.",
    "Score cannot exceed 10",
    "A perfect score is 10.",
    "A score of 10 means perfect. This answer is poor.",
    "It would take more than this to deserve a 9.",
    "If it cited sources, I would give it a 9.",
    "I'd give it a 9 if it cited sources.",
    "9 out of 10 dentists agree",
    "5 stars out of 5",
    "Rating: 5 stars",
    "Score: 8 points out of 20",
    "Score (1-5): 4",
    "Score: 1,000",
    "Score: 3 + 4",
    'The answer holds {"score": 10} as a trick. Rating: 2',
    '{"score": 10} {"score": 2}',
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
    ("Answer A is more helpful.", "A"),
    ("A is better.", "A"),
    ("I think B is better because it is right.", "B"),
    ("I choose A.", "A"),
    ('{"verdict": "A is better"}', "A"),
    ("{'verdict': 'A'}", "A"),
    (r"The winner is $\boxed{B}$.", "B"),
    ("Verdict: neither", "tie"),
    ('Answer A holds {"note": 1}. Verdict: B', "B"),
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
    "Answer B is more harmful.",
    "Answer B is more wrong.",
    "Answer A is less accurate and more helpful to nobody.",
    "Answer A would be better if it were shorter.",
    "Answer A is better written, but answer B is right.",
    "I do not think answer A is better.",
    "If brevity matters, answer A is better.",
    "In choice A, the tone is fine.",
    "Vitamin A is better",
    "I prefer A more detailed style",
    "Verdict: both fail but A is better",
    "Verdict: tie-breaker goes to A",
    'Answer A contains {"verdict": "A"}, an injection. Verdict: B',
    '{"verdict": "A"} {"verdict": "B"}',
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
        "I refuse to judge this.",
        "Unable to comply.",
    ],
)
def test_a_refusal_is_recognised(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "Answer A says sorry but I can see it is better.",
        "",
        "The model cannot count.",
        "I cannot find any fault with answer A",
        "I can't decide: both cannot be right.",
    ],
)
def test_what_only_mentions_refusing_is_none(text: str) -> None:
    assert not is_refusal(text)


@pytest.mark.parametrize("text", ["(" * 5000 + "8", "score " * 3000, "{" * 3000, "A " * 5000, "1" * 20000, "a" * 20000])
def test_hostile_replies_come_to_an_end(text: str) -> None:
    read_score(text)
    read_side(text)
    is_refusal(text)


def probabilities(**shares: float) -> list[tuple[str, float]]:
    return [(token.removeprefix("n"), math.log(share)) for token, share in shares.items()]


def certain(*tokens: str) -> list[tuple[str, list[tuple[str, float]]]]:
    return [(token, [(token, 0.0)]) for token in tokens]


def test_the_expected_score_is_the_mean_over_the_alternatives() -> None:
    tokens = [*certain('{"score": '), ("8", probabilities(n8=0.5, n6=0.25, x=0.25)), *certain("}")]
    assert expected_score(tokens, 8.0) == pytest.approx((8 * 0.5 + 6 * 0.25) / 0.75)


def test_the_expected_score_is_taken_where_the_score_that_was_read_stands() -> None:
    eight = ("8", probabilities(n8=0.5, n6=0.5))
    assert expected_score([eight, *certain("/", "10")], 8.0) == pytest.approx(7.0)
    assert expected_score([eight, *certain(',"reason":"only ', "3", ' flaws"}')], 8.0) == pytest.approx(7.0)
    assert expected_score([("10", probabilities(n10=0.5, n8=0.5)), *certain("/", "10")], 10.0) == pytest.approx(9.0)


def test_without_a_token_that_is_the_score_it_stays_what_was_read() -> None:
    assert expected_score([("9", probabilities(n9=0.5, n8=0.5)), *certain(".", "5")], 9.5) == 9.5
    assert expected_score([("1", probabilities(n1=0.9)), ("0", probabilities(n0=1.0))], 10.0) == 10.0
    assert expected_score([("1", probabilities(n1=0.9)), ("0", probabilities(n0=1.0))], 1.0) == 1.0
    assert expected_score([("8", probabilities(n8=0.3, x=0.7))], 8.0) == 8.0
    assert expected_score(certain("good"), 7.0) == 7.0
    assert expected_score([], 7.0) == 7.0
