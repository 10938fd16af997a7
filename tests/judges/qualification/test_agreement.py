"""Judges beside people, on published verdicts and on rows small enough to count by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fairlead.errors import DataError
from fairlead.judges.qualification.agreement import agreement, ask, of_file
from fairlead.judges.qualification.human_labels import LabelledComparison, read_labelled, state_of
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Comparison, Prompt, VerdictState
from tests.support.judging import openai_judge
from tests.support.misbehaving import JudgeServer

W, L, T, U = VerdictState.WIN, VerdictState.LOSS, VerdictState.TIE, VerdictState.UNREADABLE


def test_gpt35_on_pandalm_as_published_and_honestly(shared_data: Path) -> None:
    measured = of_file(shared_data / "pandalm_human.jsonl", "gpt35")
    assert measured.rows == 999
    expected_states = {"win": 460, "loss": 476, "tie": 38, "unreadable": 25}
    assert measured.states == {str(state): expected_states.get(str(state), 0) for state in VerdictState}, (
        "all seven are counted"
    )
    assert measured.accuracy_missing_as_tie.value == pytest.approx(0.7107, abs=5e-5)
    assert measured.accuracy_missing_as_tie.n == 999
    assert measured.accuracy_missing_as_wrong.value == pytest.approx(0.6977, abs=5e-5)
    assert measured.accuracy.value == pytest.approx(697 / 974)
    assert measured.accuracy.n == 974
    assert measured.missing.value == pytest.approx(25 / 999)
    assert measured.order_agreement is None
    assert measured.people is not None


def test_gpt4_on_llmbar_as_published(shared_data: Path) -> None:
    measured = of_file(shared_data / "llmbar_gpt4.jsonl", "gpt4")
    assert measured.accuracy.n == 838
    assert round(100 * (measured.accuracy.value or 0), 1) == 84.5
    assert measured.order_agreement is not None
    assert measured.order_agreement.n == 419
    assert round(100 * (measured.order_agreement.value or 0), 1) == 92.8
    # Of 419 pairs 30 disagree: 20 say what stands first both times, 10 what stands second.
    assert measured.first_place.value == pytest.approx((389 + 2 * 20) / 838)


def rows(
    *people: tuple[VerdictState, ...], first: str = "long answer", second: str = "short"
) -> list[LabelledComparison]:
    return [
        LabelledComparison(Comparison(Prompt.of(f"q{n}"), first, second), labels) for n, labels in enumerate(people)
    ]


def verdicts(*states: Sequence[VerdictState]) -> list[tuple[VerdictState, ...]]:
    return [tuple(orders) for orders in states]


def test_labels_are_letters_numbers_or_words() -> None:
    words = {"A": W, "b": L, "first": W, "2": L, "Tie": T, "both": U}
    assert {word: state_of(word) for word in words} == words


def test_a_missing_verdict_is_neither_right_nor_wrong_nor_a_tie() -> None:
    measured = agreement(rows((W,), (W,), (T,)), verdicts((W,), (U,), (U,)))
    assert (measured.accuracy.value, measured.accuracy.n) == (1.0, 1)
    assert measured.accuracy_missing_as_tie.value == pytest.approx(2 / 3)
    assert measured.accuracy_missing_as_wrong.value == pytest.approx(1 / 3)
    assert measured.missing.value == pytest.approx(2 / 3)


def test_rows_on_which_people_have_no_majority_are_left_out_and_counted() -> None:
    measured = agreement(rows((W, L), (W, W, L)), verdicts((W,), (W,)))
    assert (measured.rows, measured.undecided_rows) == (1, 1)
    assert measured.people is not None
    assert measured.people.value == pytest.approx((0 + 1 / 3) / 2)


def test_orders_that_disagree_show_the_place_that_is_preferred() -> None:
    # (W, L): the first answer when it stands first, the second when that stands first.
    measured = agreement(rows((W,), (W,), (W,)), verdicts((W, W), (W, L), (W, L)))
    assert measured.first_place.value == pytest.approx(5 / 6)
    assert measured.order_agreement is not None
    assert measured.order_agreement.value == pytest.approx(1 / 3)
    assert measured.pair_accuracy is not None
    assert (measured.pair_accuracy.value, measured.pair_accuracy.n) == (1.0, 1)


def test_preference_for_length_stands_beside_that_of_people() -> None:
    measured = agreement(rows((W,), (L,), (L,), (L,)), verdicts((W,), (W,), (W,), (T,)))
    assert measured.longer.value == 1.0
    assert measured.longer.n == 3
    assert measured.longer_people.value == pytest.approx(1 / 4)


def test_kappa_of_perfect_agreement_is_one() -> None:
    measured = agreement(rows((W,), (L,), (T,)), verdicts((W,), (L,), (T,)))
    assert measured.kappa.value == pytest.approx(1.0)


def test_a_judge_is_asked_in_both_orders(ledger: ReplyStore) -> None:
    first_place = '{"verdict": "A"}'
    with JudgeServer(brain=lambda messages: first_place) as server:
        judge = openai_judge(server, ledger, both_orders=False)
        assert ask(judge, rows((W,), (L,))) == [(W, L), (W, L)]
        list(openai_judge(server, ledger).compare([row.comparison for row in rows((W,), (L,))]))
        assert server.stats.paid == 4, "a judge that asks in both orders finds these replies in the ledger"


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_rows_of_ones_own(tmp_path: Path) -> None:
    labelled = {
        "prompt": "p",
        "first": "a",
        "second": "b",
        "human": ["first", "first", "tie"],
        "mine": {"ab": 1, "ba": "x"},
    }
    pair = {"prompt": "p", "chosen": "a", "rejected": "b", "mine": "2", "first_model": "gpt-4"}
    read = read_labelled(write(tmp_path / "rows.jsonl", labelled, pair), "mine")
    assert [row.human for row in read] == [W, W]
    assert [row.stored for row in read] == [(W, U), (L,)]
    assert read[1].models == ("gpt-4", "")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, r"rows\.jsonl:1: has none of the known forms"),
        ({"prompt": "p", "first": "a", "second": "b", "human": "left"}, "human is 'left'"),
        ({"prompt": "p", "first": 1, "second": "b", "human": "first"}, "'first' must be a string, not 1"),
        ({"prompt": "p", "first": "a", "second": "b", "human": "first"}, "has no field mine"),
        ({"prompt": "p", "first": "a", "second": "b", "human": "first", "mine": {}}, "two orders are wanted"),
        ([1], "not an object but a number"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        of_file(write(tmp_path / "rows.jsonl", row), "mine")


def test_rows_with_one_order_and_with_two_do_not_mix(tmp_path: Path) -> None:
    base = {"prompt": "p", "first": "a", "second": "b", "human": "first"}
    path = write(tmp_path / "rows.jsonl", {**base, "mine": 1}, {**base, "mine": {"ab": 1, "ba": 1}})
    with pytest.raises(DataError, match="one order in some rows and two in others"):
        of_file(path, "mine")
