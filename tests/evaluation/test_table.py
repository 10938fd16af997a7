"""The comparison's figures: what may be called better, what missing verdicts could change, what should be doubted."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.documents.evaluation import Conclusion, MetricDifference, PairResult
from fairlead.documents.report import TableRow
from fairlead.evaluation.caveats import answer_figures, caveats_of
from fairlead.evaluation.table import conclude, detectable, mean_of, metric_row, pair_result, rows_with_holm, with_holm
from fairlead.records import Interval, ModelPair, Verdict, VerdictState, to_json, verdict_from_json
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


DPO_OVER_SFT = ModelPair("dpo", "sft")


def pair(states: str, **kwargs: Any) -> PairResult:
    return pair_result(DPO_OVER_SFT, verdicts(states), [str(n) for n in range(len(states))], **kwargs)


def test_missing_verdicts_bound_the_win_rate_and_are_no_part_of_it():
    result = pair("wwwltfu")
    assert (result.win_rate.value, result.win_rate.n, result.missing) == (3.5 / 5, 5, 2)
    assert (result.worst, result.best) == (3.5 / 7, 5.5 / 7)


def test_a_pair_whose_orders_disagree_counts_half_and_is_part_of_the_win_rate():
    result = pair("wwliif")
    assert (result.win_rate.value, result.win_rate.n, result.missing) == (3 / 5, 5, 1)
    assert (result.worst, result.best) == (3 / 6, 4 / 6)
    assert (result.consistent.value, result.consistent.n) == (pytest.approx(2 / 3), 3)


def test_thirty_wins_beside_seventy_pairs_without_agreement_are_no_certain_win():
    result = pair("w" * 30 + "i" * 70)
    assert (result.win_rate.value, result.win_rate.n, result.consistent.value) == (0.65, 100, 1.0)
    assert result.win_rate.high < 0.75


def test_every_order_is_one_vote_and_votes_of_a_prompt_are_one_group():
    """A win and a tie are three quarters; equal answers, which nobody was asked about, weigh as much as others."""
    win, loss, tie = VerdictState.WIN, VerdictState.LOSS, VerdictState.TIE
    orders = [(win, tie), (win, win), (loss, win), ()]
    states = [VerdictState.INCONSISTENT, VerdictState.WIN, VerdictState.INCONSISTENT, VerdictState.TIE]
    verdicts = [Verdict(str(n), s, "judge", orders=o) for n, (s, o) in enumerate(zip(states, orders, strict=True))]
    assert [verdict.outcome for verdict in verdicts] == [0.75, 1.0, 0.5, 0.5]
    result = pair_result(DPO_OVER_SFT, verdicts, list("abcd"))
    assert result.win_rate.value == pytest.approx(2.75 / 4)
    expected = win_rate([1, 0.5, 1, 1, 0, 1, 0.5, 0.5], list("aabbccdd"))
    assert result.pooled == expected
    assert verdict_from_json(to_json(verdicts[0])) == verdicts[0]


def test_the_means_of_a_row_and_its_difference_are_of_the_same_prompts_and_have_intervals():
    values = {"base": [0.0, 1.0, None], "sft": [1.0, 0.0, 1.0], "dpo": [1.0, None, None]}
    row = metric_row("m", values, list("abc"))
    assert {model: mean.value for model, mean in row.means.items()} == {"base": 0.0, "sft": 1.0, "dpo": 1.0}
    assert row.difference.delta.value == 0.0
    assert (row.difference.delta.n, row.difference.missing) == (1, 2)
    many = metric_row("m", {"sft": [0.0, 1.0] * 50, "dpo": [1.0] * 100}, [str(n) for n in range(100)])
    expected = win_rate([0.0, 1.0] * 50)
    assert many.means["sft"] == expected
    assert many.means["dpo"].low > 0.95
    assert (TableRow.of_row(many).base, TableRow.of_row(many).base_low) == (None, None)


def test_scores_that_all_differ_alike_have_an_interval():
    row = metric_row("judge_score", {"sft": [5.0] * 40, "dpo": [5.0] * 40}, [str(n) for n in range(40)], judged=True)
    assert row.difference.conclusion is Conclusion.NOT_SHOWN
    assert row.difference.delta.low < 0 < row.difference.delta.high


def test_the_word_says_what_could_have_been_seen():
    assert pair("w" * 30).text == "better"
    assert pair("l" * 30).text == "worse"
    tied = pair("wl" * 50)
    assert tied.text == f"no difference shown (could have seen ±{tied.detectable:.3f})"
    assert tied.detectable == pytest.approx(0.14, abs=0.005)  # 2.8 standard errors of 0.05
    assert conclude(Interval(0.1, None, None, 1, "undefined: one value")) is Conclusion.UNDEFINED
    assert detectable(Interval(0.1, None, None, 1, "undefined: one value")) is None


def test_clusters_widen_what_could_have_been_seen():
    states = verdicts("wwll" * 10)
    apart = pair_result(DPO_OVER_SFT, states, [str(n) for n in range(40)])
    together = pair_result(DPO_OVER_SFT, states, [str(n // 4 * 2 + n % 4 // 2) for n in range(40)])
    assert together.detectable > 1.3 * apart.detectable


def test_missing_scores_bound_the_difference_from_both_sides():
    row = metric_row("judge_score", {"sft": [5.0, 5.0], "dpo": [6.0, None]}, ["a", "b"], judged=True)
    assert (row.difference.delta.value, row.difference.delta.n, row.difference.missing) == (1.0, 1, 1)
    assert (row.difference.delta_worst, row.difference.delta_best) == ((1 - 4) / 2, (1 + 5) / 2)


def test_a_check_that_is_undefined_for_a_prompt_is_not_missing_evidence():
    row = metric_row("severity", {"sft": [0.0, None, 1.0], "dpo": [1.0, None, 1.0]}, ["a", "b", "c"])
    assert (row.difference.delta_worst, row.difference.delta_best, row.difference.delta.n) == (None, None, 2)


def test_holms_correction_stands_beside_every_p():
    clusters = [str(n) for n in range(10)]
    strong = metric_row("strong", {"sft": [0.0] * 10, "dpo": [1.0] * 10}, clusters)
    weak = metric_row("weak", {"sft": [0.0] * 10, "dpo": [1.0] * 5 + [0.0] * 5}, clusters)
    none = metric_row("none", {"sft": [1.0] * 10, "dpo": [1.0] * 10}, clusters)
    table = rows_with_holm([strong, weak, none])
    assert [row.difference.p for row in table] == [2 / 2**10, 2 / 2**5, None]
    assert [row.difference.p_holm for row in table] == [4 / 2**10, 2 / 2**5, None]


def difference(metric: str, conclusion: Conclusion, p: float, p_holm: float | None = None) -> MetricDifference:
    return MetricDifference(
        metric=metric,
        pair=DPO_OVER_SFT,
        delta=Interval(0.0, None, None, 100, "given"),
        missing=0,
        conclusion=conclusion,
        detectable=None,
        delta_worst=None,
        delta_best=None,
        p=p,
        p_holm=p_holm,
    )


def names(**changes: Any) -> list[str]:
    content: dict[str, Any] = {"table": [], "pairwise": [], "answers": {}, "prompts": 100, "missing": 0.0, **changes}
    return [
        c.name for c in caveats_of(content.pop("table"), content.pop("pairwise"), content.pop("answers"), **content)
    ]


def test_a_sound_comparison_has_no_warnings():
    texts = [f"answer number {n}" for n in range(100)]
    answers = {view: answer_figures(texts, [False] * 100) for view in ("sft", "dpo")}
    lengths = [len(text) for text in texts]
    result = pair("wwwl" * 25, lengths=lengths, reference_lengths=lengths)
    table = with_holm([difference("m", Conclusion.BETTER, 0.001)])
    assert names(table=table, pairwise=[result], answers=answers) == []


def test_each_doubt_has_its_name():
    assert names(prompts=12) == ["few_prompts"]
    assert names(missing=0.05) == ["missing_verdicts"]
    assert names(pairwise=[pair("w" * 60 + "i" * 20)]) == ["order"]
    assert names(answers={"dpo": answer_figures(["a b"] * 4 + [f"t {n}" for n in range(26)], [False] * 30)}) == [
        "repeated_answer"
    ]
    assert names(answers={"dpo": answer_figures([f"t {n}" for n in range(30)], [True] * 2 + [False] * 28)}) == ["cut"]
    assert names(answers={"dpo": answer_figures(["no " * 20, *(f"t {n}" for n in range(9))], [False] * 10)}) == [
        "loops"
    ]


def test_two_metrics_against_the_judge_are_named_and_one_is_not():
    judge = [pair("w" * 100)]
    rows = [difference(name, Conclusion.WORSE, 0.001, 0.002) for name in ("format", "keywords")]
    assert names(table=rows, pairwise=judge) == ["opposed_metrics"]
    assert names(table=rows[:1], pairwise=judge) == []


def test_a_difference_that_only_many_metrics_brought_about_is_named():
    conclusions = [Conclusion.BETTER, *[Conclusion.NOT_SHOWN] * 3]
    rows = with_holm([difference(str(n), conclusion, 0.04 + n / 10) for n, conclusion in enumerate(conclusions)])
    assert names(table=rows) == ["multiple_metrics"]


def test_longer_answers_that_win_only_by_length_are_named():
    """The judge prefers the longer answer, whoever wrote it; DPO writes longer ones."""
    mine = [100 + n % 50 for n in range(120)]
    theirs = [50 + (n * 7) % 90 for n in range(120)]
    states = "".join("w" if a > b else "l" for a, b in zip(mine, theirs, strict=True))
    result = pair(states, lengths=mine, reference_lengths=theirs)
    assert result.conclusion is Conclusion.BETTER
    assert result.length_adjusted.value < result.win_rate.value - 0.1
    answers = {
        "dpo": answer_figures([f"{n}".ljust(size, "x") for n, size in enumerate(mine)], [False] * 120),
        "sft": answer_figures([f"{n}".ljust(size, "y") for n, size in enumerate(theirs)], [False] * 120),
    }
    assert "length" in names(pairwise=[result], answers=answers)


@pytest.mark.parametrize(("states", "expected"), [("w" * 80 + "l" * 20, ["length"]), ("l" * 80 + "w" * 20, [])])
def test_answers_that_are_all_longer_leave_no_way_to_tell_a_win_from_length(states, expected):
    result = pair(states, lengths=[200] * 100, reference_lengths=[100] * 100)
    assert result.length_adjusted.value is None
    answers = {
        view: answer_figures([f"{n}".ljust(size, "x") for n in range(100)])
        for view, size in (("dpo", 200), ("sft", 100))
    }
    caveat_names = names(pairwise=[result], answers=answers)
    assert [name for name in caveat_names if name == "length"] == expected


def test_pairwise_figures_rest_on_the_statistics():
    result = pair("wwltw")
    expected = win_rate([1, 1, 0, 0.5, 1], list("01234"))
    assert result.win_rate == expected


def test_the_interval_of_few_scores_stays_on_the_scale() -> None:
    few = mean_of([9.0, 3.0], ["a", "b"], judged=True)
    assert (few.value, few.low, few.high) == (6.0, 1.0, 10.0), "t of two values reaches from -32 to 44"
    many = mean_of([6.0, 7.0, 8.0] * 10, [str(n) for n in range(30)], judged=True)
    assert many.low is not None
    assert many.high is not None
    assert 1.0 < many.low < many.high < 10.0
