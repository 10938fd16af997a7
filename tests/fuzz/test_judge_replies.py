"""Whatever a judge writes, the reader does not fail, and reads a verdict only from one of its forms."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairlead.judges.reply_parser import is_refusal, read_choice, read_score
from tests.support.fuzz import bounded

TOKENS = r"""
A B tie a C 8 10 7.5 8/10 - . , : = ! ? > # [[ ]] [[A]] [[8]] \boxed{ } \boxed{B} $ ** _ ` ``` ```json
Verdict Score: rating winner Answer not NaN 1e999 null { "verdict" "score" " [ <think> </think>
"""
PHRASES = ("Verdict: A", "Verdict: B", "Score: 8", "the winner is", "is better", "I prefer", "because", "out of 10")
OBJECTS = ('{"verdict": "A"}', '{"verdict": "B"}', '{"score": 8}', '{"score": ' + "9" * 320 + "}")
SPACES = ("\n", "\n\n", " ", "\t", "\0", "\ud800")
FRAGMENTS = st.sampled_from([*TOKENS.split(), *PHRASES, *OBJECTS, *SPACES])
REPLIES = st.one_of(
    st.text(), st.lists(FRAGMENTS, max_size=12).map("".join), st.lists(FRAGMENTS, max_size=8).map(" ".join)
)
WORDS = st.text(st.characters(categories=["L"]), min_size=4, max_size=12).filter(
    lambda word: word.casefold() not in KNOWN
)
FORM_WORDS = """
a b c tie tied draw equal neither both my the final overall total is verdict winner choice preference decision judgment
judgement better best preferred answer response output assistant model option candidate boxed text on scale from score
rating grade bewertung puntuación puntuacion 評価 评分 of to out ten point points
"""
KNOWN = frozenset(FORM_WORDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
CHOICE_FORMS = (
    "Verdict: {}",
    "[[{}]]",
    "\\boxed{{{}}}",
    '{{"verdict": "{}"}}',
    '```json\n{{"verdict": "{}"}}\n```',
    "{}",
)


def ends_in_a_form(reply: str) -> bool:
    """Whether the last line is made of the forms' own words alone, or the reply ends with a JSON object."""
    reply = re.split("</(?:think|thinking|reasoning)>", reply)[-1].strip().removesuffix("```").rstrip()
    last = reply.splitlines()[-1] if reply else ""
    words = {word.casefold() for word in re.findall(r"[^\W\d_]+", last)}
    starts = (match.end() for match in re.finditer(r"^[ \t]*(?=\{)", reply, re.MULTILINE))
    return (bool(last) and words <= KNOWN) or any(is_object(reply[start:]) for start in starts)


def is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


@bounded(300)
@given(REPLIES, st.booleans())
def test_no_reply_makes_the_reader_fail_and_no_other_form_is_read(reply: str, cut: bool) -> None:
    choice, score = read_choice(reply, cut=cut), read_score(reply, cut=cut)
    assert choice in ("A", "B", "tie", None)
    assert score is None or 1 <= score <= 10
    assert is_refusal(reply) in (True, False)
    if not ends_in_a_form(reply):
        assert (choice, score) == (None, None)


@bounded(200)
@given(st.lists(WORDS, min_size=1, max_size=30).map(" ".join))
def test_prose_without_a_form_is_never_read(prose: str) -> None:
    assert (read_choice(prose), read_score(prose)) == (None, None)


@bounded(100)
@given(st.sampled_from(CHOICE_FORMS), st.sampled_from(["A", "B", "tie"]), st.lists(WORDS, min_size=1, max_size=8))
def test_nothing_may_stand_after_a_verdict_and_reasoning_may_stand_before_it(
    form: str, choice: str, words: list[str]
) -> None:
    reply, prose = form.format(choice), " ".join(words) + "."
    assert read_choice(reply) == choice
    assert read_choice(f"{prose}\n{reply}") == choice
    assert read_choice(f"{reply}\n{prose}") is None
    assert read_choice(f"{reply} {prose}") is None
    assert read_choice(f"{prose.removesuffix('.')}:\n{reply}") is None


@bounded(100)
@given(st.sampled_from(CHOICE_FORMS), st.sampled_from(CHOICE_FORMS[:5]), st.permutations(["A", "B", "tie"]))
def test_two_different_verdicts_are_none(form: str, last: str, choices: list[str]) -> None:
    first, second, _ = choices
    if form == "{}":  # a letter alone before a labelled verdict is a heading
        form, last = last, form
    assert read_choice(f"{form.format(first)}\n{last.format(second)}") is None


@bounded(200)
@given(JSON)
def test_a_json_value_is_a_score_only_where_it_is_a_number_on_the_scale(value: Any) -> None:
    score = read_score(json.dumps({"reason": "r", "score": value}))
    number = isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 10
    if number:
        assert score == value
    elif not isinstance(value, str):
        assert score is None
    assert read_score(json.dumps({"reason": value, "score": 7})) in (7.0, None)


@bounded(100)
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_key_that_is_there_twice_makes_the_reply_unreadable(key: str, value: str) -> None:
    quoted, text = json.dumps(key), json.dumps(value)
    twice = f'{{{quoted}: {text}, "verdict": "A", {quoted}: {text}}}'
    assert read_choice(twice) is None
