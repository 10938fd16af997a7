"""The comparison's figures: what may be called better, what missing verdicts could change, what should be doubted."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.evaluation.caveats import answer_figures, warnings_of
from fairlead.evaluation.table import detectable, ends, pairwise_figures, table_row, with_holm, word
from fairlead.records import Interval, Verdict, VerdictState, to_json, verdict_from_json
from fairlead.statistics.win_rate import win_rate


def verdicts(states: str) -> list[Verdict]:
    """w win, l loss, t tie, i inconsistent, f failed, u unreadable."""
    known = {
        "w": VerdictState.WIN,
        "l": VerdictState.LOSS,
        "t": VerdictState.TIE,
        "i": VerdictState.INCONSISTENT,
        "f": VerdictState.FAILED,
        "u": VerdictState.UNREADABLE,
    }
    return [Verdict(str(number), known[state], "judge") for number, state in enumerate(states)]


def pair(states: str, **kwargs: Any) -> dict[str, Any]:
    return pairwise_figures(verdicts(states), [str(n) for n in range(len(states))], **kwargs)


def test_missing_verdicts_bound_the_win_rate_and_are_no_part_of_it():
    found = pair("wwwltfu")
    assert (found["win_rate"], found["n"], found["missing"]) == (3.5 / 5, 5, 2)
    assert (found["worst"], found["best"]) == (3.5 / 7, 5.5 / 7)


def test_a_pair_whose_orders_disagree_counts_half_and_is_part_of_the_win_rate():
    found = pair("wwliif")
    assert (found["win_rate"], found["n"], found["missing"]) == (3 / 5, 5, 1)
    assert (found["worst"], found["best"]) == (3 / 6, 4 / 6)
    assert (found["consistent"]["value"], found["consistent"]["n"]) == (pytest.approx(2 / 3), 3)


def test_thirty_wins_beside_seventy_pairs_without_agreement_are_no_certain_win():
    found = pair("w" * 30 + "i" * 70)
    assert (found["win_rate"], found["n"], found["consistent"]["value"]) == (0.65, 100, 1.0)
    assert found["high"] < 0.75


def test_every_order_is_one_vote_and_votes_of_a_prompt_are_one_group():
    """A win and a tie are three quarters; equal answers, which nobody was asked about, weigh as much as others."""
    win, loss, tie = VerdictState.WIN, VerdictState.LOSS, VerdictState.TIE
    orders = [(win, tie), (win, win), (loss, win), ()]
    states = [VerdictState.INCONSISTENT, VerdictState.WIN, VerdictState.INCONSISTENT, VerdictState.TIE]
    given = [Verdict(str(n), s, "judge", orders=o) for n, (s, o) in enumerate(zip(states, orders, strict=True))]
    assert [verdict.outcome for verdict in given] == [0.75, 1.0, 0.5, 0.5]
    found = pairwise_figures(given, list("abcd"))
    assert found["win_rate"] == pytest.approx(2.75 / 4)
    expected = win_rate([1, 0.5, 1, 1, 0, 1, 0.5, 0.5], list("aabbccdd"))
    assert found["pooled"] == ends(expected)
    assert verdict_from_json(to_json(given[0])) == given[0]


def test_the_means_of_a_row_and_its_difference_are_of_the_same_prompts_and_have_intervals():
    values = {"base": [0.0, 1.0, None], "sft": [1.0, 0.0, 1.0], "dpo": [1.0, None, None]}
    row = table_row("m", values, list("abc"))
    assert (row["base"], row["sft"], row["dpo"], row["delta"], row["n"], row["missing"]) == (0.0, 1.0, 1.0, 0.0, 1, 2)
    many = table_row("m", {"sft": [0.0, 1.0] * 50, "dpo": [1.0] * 100}, [str(n) for n in range(100)])
    expected = win_rate([0.0, 1.0] * 50)
    assert (many["sft_low"], many["sft_high"]) == (expected.low, expected.high)
    assert many["dpo_low"] > 0.95
    assert (many["base"], many["base_low"]) == (None, None)


def test_scores_that_all_differ_alike_have_an_interval():
    row = table_row("judge_score", {"sft": [5.0] * 40, "dpo": [5.0] * 40}, [str(n) for n in range(40)], judged=True)
    assert row["word"].startswith("no difference shown")
    assert row["delta_low"] < 0 < row["delta_high"]


def test_the_word_says_what_could_have_been_seen():
    assert pair("w" * 30)["word"] == "better"
    assert pair("l" * 30)["word"] == "worse"
    even = pair("wl" * 50)
    assert even["word"] == f"no difference shown (could have seen ±{even['detectable']:.3f})"
    assert even["detectable"] == pytest.approx(0.14, abs=0.005)  # 2.8 standard errors of 0.05
    assert word(Interval(0.1, None, None, 1, "undefined: one value")) == "undefined"
    assert detectable(Interval(0.1, None, None, 1, "undefined: one value")) is None


def test_clusters_widen_what_could_have_been_seen():
    states = verdicts("wwll" * 10)
    apart = pairwise_figures(states, [str(n) for n in range(40)])
    together = pairwise_figures(states, [str(n // 4 * 2 + n % 4 // 2) for n in range(40)])
    assert together["detectable"] > 1.3 * apart["detectable"]


def test_missing_scores_bound_the_difference_from_both_sides():
    row = table_row("judge_score", {"sft": [5.0, 5.0], "dpo": [6.0, None]}, ["a", "b"], judged=True)
    assert (row["delta"], row["n"], row["missing"]) == (1.0, 1, 1)
    assert (row["delta_worst"], row["delta_best"]) == ((1 - 4) / 2, (1 + 5) / 2)


def test_a_check_that_is_undefined_for_a_prompt_is_not_missing_evidence():
    row = table_row("severity", {"sft": [0.0, None, 1.0], "dpo": [1.0, None, 1.0]}, ["a", "b", "c"])
    assert (row["delta_worst"], row["delta_best"], row["n"]) == (None, None, 2)


def test_holms_correction_stands_beside_every_p():
    clusters = [str(n) for n in range(10)]
    strong = table_row("strong", {"sft": [0.0] * 10, "dpo": [1.0] * 10}, clusters)
    weak = table_row("weak", {"sft": [0.0] * 10, "dpo": [1.0] * 5 + [0.0] * 5}, clusters)
    none = table_row("none", {"sft": [1.0] * 10, "dpo": [1.0] * 10}, clusters)
    table = with_holm([strong, weak, none])
    assert [row["p"] for row in table] == [2 / 2**10, 2 / 2**5, None]
    assert [row["p_holm"] for row in table] == [4 / 2**10, 2 / 2**5, None]


def names(**changes: Any) -> list[str]:
    given: dict[str, Any] = {"table": [], "pairwise": {}, "answers": {}, "prompts": 100, "missing": 0.0, **changes}
    return [w["name"] for w in warnings_of(given.pop("table"), given.pop("pairwise"), given.pop("answers"), **given)]


def test_a_sound_comparison_has_no_warnings():
    texts = [f"answer number {n}" for n in range(100)]
    answers = {view: answer_figures(texts, [False] * 100) for view in ("sft", "dpo")}
    lengths = [len(text) for text in texts]
    found = pair("wwwl" * 25, lengths=lengths, other_lengths=lengths)
    table = with_holm([{"metric": "m", "word": "better", "p": 0.001}])
    assert names(table=table, pairwise={"dpo_vs_sft": found}, answers=answers) == []


def test_each_doubt_has_its_name():
    assert names(prompts=12) == ["few_prompts"]
    assert names(missing=0.05) == ["missing_verdicts"]
    assert names(pairwise={"dpo_vs_sft": pair("w" * 60 + "i" * 20)}) == ["order"]
    assert names(answers={"dpo": answer_figures(["a b"] * 4 + [f"t {n}" for n in range(26)], [False] * 30)}) == [
        "repeated_answer"
    ]
    assert names(answers={"dpo": answer_figures([f"t {n}" for n in range(30)], [True] * 2 + [False] * 28)}) == ["cut"]
    assert names(answers={"dpo": answer_figures(["no " * 20, *(f"t {n}" for n in range(9))], [False] * 10)}) == [
        "loops"
    ]


def test_two_metrics_against_the_judge_are_named_and_one_is_not():
    judge = {"dpo_vs_sft": pair("w" * 100)}
    row = {"word": "worse", "p": 0.001, "p_holm": 0.002, "against": "sft"}
    rows = [{"metric": name, **row} for name in ("format", "keywords")]
    assert names(table=rows, pairwise=judge) == ["opposed_metrics"]
    assert names(table=rows[:1], pairwise=judge) == []


def test_a_difference_that_only_many_metrics_brought_about_is_named():
    rows = with_holm([{"metric": str(n), "word": "better" if n == 0 else "no", "p": 0.04 + n / 10} for n in range(4)])
    assert names(table=rows) == ["multiple_metrics"]


def test_longer_answers_that_win_only_by_length_are_named():
    """The judge prefers the longer answer, whoever wrote it; DPO writes longer ones."""
    mine = [100 + n % 50 for n in range(120)]
    theirs = [50 + (n * 7) % 90 for n in range(120)]
    states = "".join("w" if a > b else "l" for a, b in zip(mine, theirs, strict=True))
    found = pair(states, lengths=mine, other_lengths=theirs)
    assert found["word"] == "better"
    assert found["length_adjusted"]["value"] < found["win_rate"] - 0.1
    answers = {
        "dpo": answer_figures([f"{n}".ljust(size, "x") for n, size in enumerate(mine)], [False] * 120),
        "sft": answer_figures([f"{n}".ljust(size, "y") for n, size in enumerate(theirs)], [False] * 120),
    }
    assert "length" in names(pairwise={"dpo_vs_sft": found}, answers=answers)


@pytest.mark.parametrize(("states", "expected"), [("w" * 80 + "l" * 20, ["length"]), ("l" * 80 + "w" * 20, [])])
def test_answers_that_are_all_longer_leave_no_way_to_tell_a_win_from_length(states, expected):
    found = pair(states, lengths=[200] * 100, other_lengths=[100] * 100)
    assert found["length_adjusted"]["value"] is None
    answers = {
        view: answer_figures([f"{n}".ljust(size, "x") for n in range(100)])
        for view, size in (("dpo", 200), ("sft", 100))
    }
    given = names(pairwise={"dpo_vs_sft": found}, answers=answers)
    assert [name for name in given if name == "length"] == expected


def test_pairwise_figures_rest_on_the_statistics():
    found = pair("wwltw")
    expected = win_rate([1, 1, 0, 0.5, 1], list("01234"))
    assert (found["win_rate"], found["low"], found["high"]) == (expected.value, expected.low, expected.high)
