"""The checks of preference data: each finds its fault at the right rows, and clean data passes all of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fairlead.config.data import CHECK_NAMES, DataCheckSettings
from fairlead.data.checks.quality import check_pairs
from fairlead.documents.data_check import DataCheck, Finding
from fairlead.records import DropReason, Interval, Preference, Prompt
from tests.support.pairs import ACTS, SAMPLED, THINGS, clean, pair

TRIAL = DataCheckSettings()
OF_PAIRS = [name for name in CHECK_NAMES if name != "too_long"]  # a pair that is too long is left out by the trainer


def report(pairs: Sequence[Preference], settings: DataCheckSettings = TRIAL, **options: Any) -> DataCheck:
    places = [str(n) for n in range(1, len(pairs) + 1)]
    return check_pairs(pairs, places, settings, source="pairs.jsonl", similarity=0.8, mend="drop {}".format, **options)


def finding(name: str, pairs: Sequence[Preference], settings: DataCheckSettings = TRIAL, **options: Any) -> Finding:
    return next(candidate for candidate in report(pairs, settings, **options).findings if candidate.check == name)


def test_clean_pairs_pass_every_check_that_there_is() -> None:
    data_check = report(clean(), eval_texts=["Something else altogether, which nobody asks here?"])
    assert {f.check: f.status for f in data_check.findings} == dict.fromkeys(OF_PAIRS, "pass")
    assert len(OF_PAIRS) == 18
    assert data_check.status == "pass"


LONG = "the connection pool of the order service is exhausted and nobody knows why it happens on Mondays"

CASES: dict[str, tuple[list[Preference], tuple[str, ...]]] = {
    "empty": ([pair(0, chosen=" ")], ("21",)),
    "identical": ([pair(0, chosen="same", rejected=" same ")], ("21",)),
    "equal_ratings": ([pair(500, margin=0.0)], ("21",)),
    "exact_duplicates": ([pair(3), pair(500), pair(3)], ("21", "23")),
    "near_duplicates": (
        [
            Preference(Prompt.of(f"{word}, {' '.join(THINGS)}? {LONG}"), LONG[::-1], " ".join(ACTS), 1.0)
            for word in ("really", "truly")
        ],
        ("22",),
    ),
    "contradictory": ([pair(3, chosen=pair(3).rejected, rejected=pair(3).chosen)], ("4", "21")),
    "truncated": ([pair(500, chosen=f"{LONG}, and then"), pair(501, rejected=f"{LONG} becau")], ("21", "22")),
    "looping": ([pair(500, rejected="it is full. " * 9)], ("21",)),
    "template_tokens": ([pair(500, chosen="Yes.<|im_end|>")], ("21",)),
    "mixed_languages": (
        [
            pair(n, prompt=Prompt.of(f"What is the reason for this and how can it be that it is not on, {n}?"),
                 chosen=f"Der Grund ist nicht klar und das ist für die Leute {n} nicht gut.")
            for n in (500, 501)
        ],
        ("21", "22"),
    ),
    "secrets": ([pair(500, rejected="Use AKIAABCDEFGHIJKLMNOP.")], ("21",)),
    "email_addresses": ([pair(500, chosen="Ask ann@company.org.")], ("21",)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_found_at_its_rows_with_the_command_that_mends_it(name: str) -> None:
    pairs, rows = CASES[name]
    measured = finding(name, [*clean(20), *pairs])
    assert measured.status in ("warn", "fail")
    assert measured.rows == rows
    assert measured.figures["pairs"] == len(rows)
    assert measured.figures["share"] == pytest.approx(len(rows) / (20 + len(pairs)))
    assert measured.remedy == f"drop {name}"


def test_the_case_of_every_check_of_rows_is_here() -> None:
    assert set(CASES) | {"unusable", "eval_overlap", "length", "margins", "topics", "rows"} == set(OF_PAIRS)


def test_the_secret_itself_is_not_in_the_report() -> None:
    assert "AKIAABC" not in repr(report([*clean(20), *CASES["secrets"][0]]))


def test_several_pairs_of_one_prompt_are_no_duplicates() -> None:
    prompt = Prompt.of(LONG)
    answers = [f"Restart the {thing}." for thing in THINGS]
    pairs = [Preference(prompt, a, b, 1.0) for a, b in itertools.pairwise(answers)]
    for name in ("exact_duplicates", "near_duplicates", "contradictory"):
        assert finding(name, pairs).status == "pass"


def test_a_row_copied_with_a_word_added_is_a_near_duplicate() -> None:
    one = Preference(Prompt.of(f"{LONG}?"), f"{LONG}, {' '.join(THINGS)}.", " ".join(ACTS), 1.0)
    copied = replace(one, chosen=one.chosen + " Indeed.")
    other_answer = replace(one, rejected=f"Nobody knows, {LONG[::-1]}.")
    assert finding("near_duplicates", [*clean(20), one, copied, other_answer]).rows == ("22",)


def test_a_contradiction_is_found_although_the_prompt_has_a_space_more() -> None:
    turned = pair(3, chosen=pair(3).rejected, rejected=pair(3).chosen, prompt=Prompt.of(pair(3).prompt.text + " "))
    assert finding("contradictory", [*clean(20), turned]).rows == ("4", "21")


def test_answers_in_two_languages_are_mixed_where_the_prompt_tells_none() -> None:
    german = "Der Grund ist nicht klar und das ist für die Leute nicht gut."
    english = "The reason for this is not clear and it is not good for the people."
    pairs = [pair(500, prompt=Prompt.of("disk 7?"), chosen=german, rejected=english)]
    measured = finding("mixed_languages", [*clean(10), *pairs])
    assert (measured.rows, measured.figures["kinds"]) == (("11",), {"German preferred to English": 1})
    part = english + " 数据库的连接不够，需要更多的空间，请重新启动服务器和数据库"
    assert finding("mixed_languages", [*clean(10), pair(500, chosen=part)]).rows == ("11",)


def test_nothing_at_all_is_a_report_too() -> None:
    data_check = report([], dropped=[("1", DropReason.NO_VERDICT), ("2", DropReason.NO_VERDICT)])
    assert (data_check.rows, data_check.status) == (0, "fail")


def test_an_eval_prompt_among_the_pairs_fails_with_its_rows() -> None:
    prompt = Prompt.of(f"{LONG} today?")
    pairs = [*clean(20), pair(500, prompt=prompt)]
    measured = finding("eval_overlap", pairs, eval_texts=[f"{LONG}, today?", "Another"])
    assert (measured.status, measured.rows) == ("fail", ("21",))


def test_without_eval_prompts_the_overlap_is_not_said_to_be_checked() -> None:
    assert "eval_overlap" not in {f.check for f in report(clean(20)).findings}


def test_rows_that_reading_dropped_are_counted_by_what_is_wrong_with_them() -> None:
    dropped = [
        ("3", DropReason.EQUAL_SCORES),
        ("5", DropReason.IDENTICAL),
        ("7", DropReason.EMPTY_CHOSEN),
        ("8", DropReason.NO_VERDICT),
    ]
    by_check = {f.check: f for f in report(clean(20), dropped=dropped).findings}
    assert by_check["equal_ratings"].rows == ("3",)
    assert by_check["identical"].rows == ("5",)
    assert by_check["empty"].rows == ("7",)
    assert by_check["unusable"].figures["kinds"] == {"no verdict": 1}
    assert by_check["unusable"].figures["share"] == pytest.approx(1 / 24)


def of_lengths(longer: int, shorter: int) -> list[Preference]:
    much = "a much longer answer than the other"
    won = [pair(n, chosen=much, rejected=f"short {n}") for n in range(longer)]
    return won + [pair(n, chosen=f"short {n}", rejected=much) for n in range(longer, longer + shorter)]


def test_length_alone_is_the_auc_of_the_pairs() -> None:
    measured = finding("length", of_lengths(30, 10))
    auc = measured.figures["auc"]
    assert isinstance(auc, Interval)
    assert auc.low is not None
    assert auc.high is not None
    assert auc.value == pytest.approx(0.75)
    assert auc.low < 0.75 < auc.high
    assert auc.n == 40
    for longer, shorter, status in ((11, 9, "pass"), (90, 10, "warn"), (100, 0, "fail"), (0, 100, "fail")):
        assert finding("length", of_lengths(longer, shorter)).status == status
    assert "shorter answers" in finding("length", of_lengths(0, 100)).remedy
    assert "longer answers" in finding("length", of_lengths(100, 0)).remedy


def test_margins_are_summarised_and_one_that_is_not_positive_fails() -> None:
    measured = finding("margins", [pair(n, margin=None if n < 2 else float(n)) for n in range(7)])
    assert (measured.figures["known"], measured.figures["median"], measured.figures["least"]) == (5, 4.0, 2.0)
    wrong = finding("margins", [pair(0), pair(1, margin=-1.0)])
    assert (wrong.status, wrong.rows, wrong.remedy) == ("fail", ("2",), "drop margins")


def test_one_topic_that_has_most_prompts_is_warned_of() -> None:
    pairs = [pair(n, prompt=Prompt.of(f"q{n}", cluster="a" if n else "b")) for n in range(10)]
    measured = finding("topics", pairs)
    assert measured.status == "warn"
    assert measured.figures["largest"] == {"a": 0.9, "b": 0.1}


@pytest.mark.parametrize(
    ("count", "purpose", "status"),
    [
        (499, "trial", "warn"), (499, "effect", "fail"), (500, "effect", "warn"), (999, "reliance", "fail"),
        (1000, "reliance", "pass"), (1000, "trial", "pass"),
    ],
)  # fmt: skip
def test_too_few_rows_depend_on_what_they_are_for(count: int, purpose: str, status: str) -> None:
    assert finding("rows", clean(count), DataCheckSettings.model_validate({"purpose": purpose})).status == status


def test_the_findings_come_back_from_their_file(tmp_path: Path) -> None:
    checked = report([*clean(20), *CASES["mixed_languages"][0]], eval_texts=["Something else?"])
    checked.write(tmp_path / "data_check.json")
    assert DataCheck.read(tmp_path / "data_check.json") == checked


def test_a_waived_failure_stays_a_failure_and_no_longer_counts() -> None:
    pairs = [*clean(20), pair(500, rejected="Use AKIAABCDEFGHIJKLMNOP.")]
    assert report(pairs).status == "fail"
    waived = report(pairs, DataCheckSettings.model_validate({"waive": {"secrets": "a published example"}}))
    finding = next(f for f in waived.findings if f.check == "secrets")
    assert (finding.status, finding.waived) == ("fail", "a published example")
    assert waived.status == "warn"
    assert waived.failed() == []


@pytest.mark.parametrize("waive", [{"secrets": ""}, {"secrets": "  "}, {"nothing": "because"}])
def test_a_waiver_needs_a_name_and_a_reason(waive: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        DataCheckSettings.model_validate({"waive": waive})


def test_who_sampled_an_answer_says_how_it_ended() -> None:
    whole = pair(500, chosen=f"{LONG}, and then", provenance=SAMPLED)
    cut = pair(501, provenance=replace(SAMPLED, rejected=replace(SAMPLED.rejected, finish="length")))
    measured = finding("truncated", [*clean(10), whole, cut])
    assert (measured.rows, measured.figures["kinds"]) == (("12",), {"rejected": 1})
