"""Labels of people: read, matched to the answers, made in a blind review, and what they do to the judge's figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import DataError
from fairlead.evaluation.caveats import caveats_of
from fairlead.evaluation.human.anchoring import human_figures, plan_of_labels
from fairlead.evaluation.human.labels import Label, by_place, label_row, read_labels
from fairlead.evaluation.human.review import Review
from fairlead.files import write_jsonl
from fairlead.records import Comparison, Message, ModelPair, Prompt, Verdict, VerdictState
from tests.support.reports import pair_of

WIN, LOSS, TIE = VerdictState.WIN, VerdictState.LOSS, VerdictState.TIE


def comparisons(count: int, equal: int = 0) -> list[Comparison]:
    """Comparisons of which the last ones have equal answers."""
    made = [Comparison(Prompt.of(f"question {n}"), f"new {n}", f"old {n}") for n in range(count)]
    return [Comparison(c.prompt, c.first, c.first) if n >= count - equal else c for n, c in enumerate(made)]


def label_all(path: Path, by: str, asked: list[Comparison], prefer: str = "new") -> Review:
    """A review in which the answers of one model are always preferred, as far as a blind reviewer can tell."""
    review = Review(asked, path, by)
    while (question := review.question()) is not None:
        review.answer("left" if question.left.startswith(prefer) else "right")
    return review


def test_a_label_comes_back_as_it_was_written(tmp_path: Path) -> None:
    prompt = Prompt((Message("system", "Be brief."), Message("user", "Why?")))
    labels = [
        Label(Comparison(prompt, "a", "b"), LOSS, "ann", 0.25),
        Label(Comparison(Prompt.of("Where?"), "ünï", "b\n\nc"), TIE, "bob"),
    ]
    write_jsonl(tmp_path / "labels.jsonl", map(label_row, labels))
    assert read_labels(tmp_path / "labels.jsonl") == labels


def test_labels_count_for_the_answers_that_were_read_in_either_order() -> None:
    asked = comparisons(3)
    turned = Comparison(asked[1].prompt, asked[1].second, asked[1].first)
    of_others = Comparison(asked[2].prompt, "another answer", asked[2].second)
    found = by_place([Label(asked[0], WIN, "ann"), Label(turned, WIN, "ann"), Label(of_others, WIN, "ann")], asked)
    assert {place: [label.state for label in labels] for place, labels in found.items()} == {0: [WIN], 1: [LOSS]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "p", "first": "a", "second": "b"}], "labels.jsonl:1: has no field human"),
        ([{"prompt": "p", "first": "a", "second": "b", "human": "left"}], "human is 'left'"),
        ([{"prompt": "p", "first": "a", "second": "b", "human": "tie", "by": 3}], "by"),
        ([{"prompt": "p", "first": "a", "second": "b", "human": "tie", "chance": 0}], "chance"),
        (
            [
                {"prompt": "p", "first": "a", "second": "b", "human": "tie", "by": "ann"},
                {"prompt": "p", "first": "b", "second": "a", "human": "first", "by": "ann"},
            ],
            "labels.jsonl:2: is a second label by ann of the comparison in row 1",
        ),
    ],
)
def test_a_row_that_is_no_label_is_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    write_jsonl(tmp_path / "labels.jsonl", rows)
    with pytest.raises(DataError) as caught:
        read_labels(tmp_path / "labels.jsonl")
    assert message in str(caught.value)


def test_every_label_is_on_the_disk_before_the_next_question(tmp_path: Path) -> None:
    path, asked = tmp_path / "labels.jsonl", comparisons(12, equal=2)
    review = Review(asked, path, "ann")
    for number in range(1, 4):
        review.answer("tie")
        assert len(read_labels(path)) == number
    resumed = Review(asked, path, "ann")
    question = resumed.question()
    assert question is not None
    assert (question.number, question.of) == (4, 10)  # equal answers are not asked
    assert question == review.question()


def test_reviewers_meet_the_same_comparisons_and_sides_that_do_not_tell_who_wrote_what(tmp_path: Path) -> None:
    path, asked = tmp_path / "labels.jsonl", comparisons(200)
    sides: dict[str, list[bool]] = {}
    prompts: dict[str, list[str]] = {}
    for by in ("ann", "bob"):
        review = Review(asked, path, by)
        sides[by], prompts[by] = [], []
        for _ in range(100):
            question = review.question()
            assert question is not None
            sides[by].append(question.left.startswith("new"))
            prompts[by].append(question.prompt)
            review.answer("tie")
        assert 30 < sum(sides[by]) < 70  # 100 fair coins; outside in one of 15,000
    assert prompts["ann"] == prompts["bob"]
    assert prompts["ann"] != sorted(prompts["ann"], key=lambda text: int(text.split()[1]))
    assert sides["ann"] != sides["bob"]


def test_a_label_is_taken_back_and_asked_again_and_a_skipped_one_comes_last(tmp_path: Path) -> None:
    path, asked = tmp_path / "labels.jsonl", comparisons(4)
    label_all(path, "bob", asked)
    review = Review(asked, path, "ann")
    assert not review.undo()
    first = review.question()
    assert first is not None
    review.answer("left")
    assert review.undo()
    assert review.question() == first
    assert [label.by for label in read_labels(path)] == ["bob"] * 4
    review.skip()
    for _ in range(3):
        review.answer("tie")
    last = review.question()
    assert last is not None
    assert last.prompt == first.prompt
    review.answer("tie")
    assert review.question() is None
    assert len(read_labels(path)) == 8


def verdicts(asked: list[Comparison], wins: int) -> list[Verdict]:
    return [Verdict(c.id, WIN if n < wins else LOSS, "judge") for n, c in enumerate(asked)]


def test_people_correct_a_judge_that_prefers_the_new_answers(tmp_path: Path) -> None:
    """The judge lets the new answers win 36 of 40; people, who read 20, prefer the old ones in all of them."""
    asked = comparisons(40)
    labels = [Label(c, LOSS, "ann") for c in asked[10:30]]
    figures = human_figures(verdicts(asked, 36), by_place(labels, asked), [False] * 40, [c.prompt.id for c in asked])
    assert figures.judge.value == 0.9
    assert figures.people.value == 0.0
    assert figures.labels == 20
    assert figures.anchored.high is not None
    assert figures.anchored.high < 0.3
    result = pair_of(ModelPair("dpo", "sft"), 0.8, 0.97).model_copy(update={"human": figures})
    assert [caveat.name for caveat in caveats_of([], [result], {}, prompts=40, missing=0)] == ["few_prompts", "people"]


def test_equal_answers_are_ties_that_need_no_label() -> None:
    asked = comparisons(40, equal=20)
    labels = [Label(c, WIN, "ann") for c in asked[:20]]
    figures = human_figures(
        verdicts(asked, 20), by_place(labels, asked), [c.first == c.second for c in asked], [c.prompt.id for c in asked]
    )
    assert figures.people.value == pytest.approx(0.75)
    assert figures.anchored.value == pytest.approx(0.75)
    assert figures.anchored.n == 40


def test_few_labels_correct_nothing_and_are_named(tmp_path: Path) -> None:
    asked = comparisons(40)
    labels = [Label(c, WIN, "ann") for c in asked[:9]]
    figures = human_figures(verdicts(asked, 20), by_place(labels, asked), [False] * 40, [c.prompt.id for c in asked])
    assert (figures.labels, figures.anchored.value, figures.weight) == (9, None, None)
    result = pair_of(ModelPair("dpo", "sft"), 0.4, 0.6).model_copy(update={"human": figures})
    texts = [caveat.text for caveat in caveats_of([], [result], {}, prompts=60, missing=0)]
    assert texts == [
        "dpo vs sft: 9 labels of people are too few to correct the judge (undefined: fewer than 10 labels)"
    ]


def test_agreement_of_reviewers_with_each_other_and_with_the_judge(tmp_path: Path) -> None:
    asked, path = comparisons(20), tmp_path / "labels.jsonl"
    for by, prefer in (("ann", "new"), ("bob", "new"), ("cyd", "old")):
        review = label_all(path, by, asked, prefer)
    labels = [*review.labels, *(Label(c, TIE, "dan") for c in asked[:10]), *(Label(c, WIN, "dan") for c in asked[10:])]
    figures = human_figures(verdicts(asked, 20), by_place(labels, asked), [False] * 20, [c.prompt.id for c in asked])
    assert figures.reviewers == 4
    assert set(figures.kappa_people) == {
        "ann and bob",
        "ann and cyd",
        "ann and dan",
        "bob and cyd",
        "bob and dan",
        "cyd and dan",
    }
    assert figures.kappa_people["ann and dan"].value == pytest.approx(0.0)  # one of them always says the same
    assert figures.people.value == pytest.approx((10 * (2 + 0.5) / 4 + 10 * 3 / 4) / 20)


def test_the_plan_uses_what_was_seen() -> None:
    assert "correlation of people and judge 0.50, assumed" in plan_of_labels(None, 200)
    asked = comparisons(60)
    labels = [Label(c, WIN if n % 2 else LOSS, "ann") for n, c in enumerate(asked[:30])]
    judged = [Verdict(c.id, WIN if n % 2 else LOSS, "judge") for n, c in enumerate(asked)]
    figures = human_figures(judged, by_place(labels, asked), [False] * 60, [c.prompt.id for c in asked])
    plan = plan_of_labels(figures, 60)
    assert plan.startswith("30 of 60 comparisons are labelled")
    assert "correlation of people and judge 1.00, seen on 30" in plan
    assert plan_of_labels(None, 9) == "9 comparisons are too few to correct a judge by; more than 10 are needed"


def test_rows_are_one_line_each(tmp_path: Path) -> None:
    asked = [Comparison(Prompt.of("two\nlines"), "a\u2028b", "c\nd")]
    label_all(tmp_path / "labels.jsonl", "ann", asked, "a")
    [line] = (tmp_path / "labels.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert json.loads(line)["first"] == "a\u2028b"
