"""Samples are those that differ most; the examples of the summary are what the judge said of them."""

from __future__ import annotations

from fairlead.records import Comparison, Message, Prompt, Verdict, VerdictState
from fairlead.report.examples import AnswerPair, answer_pairs, example_markdown, examples_of, most_different

PROMPTS = [Prompt((Message("user", f"report {n}"),), {}, "") for n in range(4)]
BEFORE = ["disk full", "the disk is full", "severity low", "x y z"]
AFTER = ["disk full", "the disk is empty", "severity high now", "a b c"]


def pairs(*states: VerdictState, margins: tuple[float, ...] = ()) -> list[AnswerPair]:
    verdicts = {}
    for number, state in enumerate(states):
        comparison = Comparison(PROMPTS[number], AFTER[number], BEFORE[number]).id
        margin = margins[number] if margins else None
        verdicts[comparison] = Verdict(comparison, state, "rubric", margin=margin)
    return answer_pairs(PROMPTS, BEFORE, AFTER, verdicts)


def test_answers_differ_by_the_share_of_words_that_the_other_lacks() -> None:
    assert [round(pair.difference, 2) for pair in pairs()] == [0.0, 0.25, 0.6, 1.0]
    assert most_different(pairs()) == [3, 2, 1, 0]


def test_two_empty_answers_do_not_differ() -> None:
    assert AnswerPair(PROMPTS[0], "", "").difference == 0.0


def test_the_clearest_win_and_the_clearest_loss_are_the_examples() -> None:
    win, loss = VerdictState.WIN, VerdictState.LOSS
    did, did_not = examples_of(pairs(VerdictState.TIE, win, loss, win, margins=(0.0, 0.9, 0.5, 0.1)))
    assert (did.pair.prompt.text, did_not.pair.prompt.text) == ("report 1", "report 2")
    assert "prefers the answer after DPO" in did.title
    assert "prefers the answer before DPO" in did_not.title


def test_without_a_loss_an_answer_that_stayed_is_the_second_example() -> None:
    _, did_not = examples_of(pairs(VerdictState.TIE, VerdictState.WIN, VerdictState.WIN, VerdictState.WIN))
    assert (did_not.title, did_not.pair.prompt.text) == ("What it left as it was", "report 0")
    assert "SFT and DPO:\n\n```text\ndisk full\n```" in example_markdown(did_not, "SFT")


def test_without_a_judge_the_answer_that_changed_most_is_an_example() -> None:
    assert [(e.title, e.pair.prompt.text) for e in examples_of(pairs())] == [
        ("What it changed most", "report 3"),
        ("What it left as it was", "report 0"),
    ]


def test_texts_of_models_are_short_and_cannot_leave_their_block() -> None:
    pair = AnswerPair(PROMPTS[0], "```\n# heading", "word " * 500)
    page = example_markdown(examples_of([pair])[0], "SFT")
    assert "````text" in page
    assert max(map(len, page.splitlines())) <= 240
