"""Several judges that decide together: what they say together is worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairlead.judges.panel import PanelJudge, disagreement_of, join_scores, join_verdicts
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Answer, Flag, Prompt, Score, ScoreState, Verdict, VerdictState
from tests.support.judging import openai_judge, pairs
from tests.support.misbehaving import JudgeServer, Messages, by_quality

STATES = {
    "W": VerdictState.WIN, "L": VerdictState.LOSS, "T": VerdictState.TIE, "I": VerdictState.INCONSISTENT,
    "U": VerdictState.UNREADABLE, "R": VerdictState.REFUSED, "F": VerdictState.FAILED,
}  # fmt: skip


def verdicts_of(letters: str) -> list[Verdict]:
    return [Verdict("c", STATES[letter], f"judge {n}", calls=(str(n),)) for n, letter in enumerate(letters)]


@pytest.mark.parametrize(
    ("letters", "majority", "mean"),
    [
        ("WWL", "W", "W"),
        ("WLT", "I", "T"),
        ("WT", "I", "W"),
        ("WLTT", "I", "T"),
        ("WTT", "T", "W"),
        ("LLT", "L", "L"),
        ("WWU", "W", "W"),
        ("WUU", "U", "U"),
        ("WF", "F", "F"),
        ("RRF", "R", "R"),
        ("WWLII", "W", "W"),
        ("WLIII", "I", "I"),
    ],
)
def test_verdicts_are_joined(letters: str, majority: str, mean: str) -> None:
    assert join_verdicts(verdicts_of(letters), "majority", "p").state is STATES[majority]
    assert join_verdicts(verdicts_of(letters), "mean", "p").state is STATES[mean]


def test_the_disagreement_is_in_the_reason_and_the_margin() -> None:
    verdict = join_verdicts(verdicts_of("WWL"), "majority", "p")
    assert verdict.reason == "2 win, 1 loss"
    assert verdict.margin == pytest.approx(1 / 3)
    assert verdict.calls == ("0", "1", "2")


def test_how_often_the_members_disagree_is_a_figure(ledger: ReplyStore) -> None:
    def contrary(messages: Messages) -> str:
        return by_quality(messages) if "question 0" in str(messages) else '{"verdict": "tie", "score": 1}'

    with JudgeServer() as one, JudgeServer(brain=contrary) as other:
        panel = PanelJudge([openai_judge(one, ledger), openai_judge(other, ledger)], "mean")
        assert disagreement_of(panel) is None
        list(panel.compare(pairs(4)))
        assert disagreement_of(panel) == pytest.approx(3 / 4)
        assert disagreement_of(panel.members[0]) is None


def test_the_panel_has_the_flags_of_all_members_each_once() -> None:
    flags = (Flag.FIRST_INSTRUCTS_JUDGE, Flag.SECOND_INSTRUCTS_JUDGE)
    one, other = verdicts_of("WW")
    verdict = join_verdicts([replace(one, flags=flags[:1]), replace(other, flags=flags)], "majority", "p")
    assert verdict.flags == flags
    assert verdict.reason == "2 win"
    undecided = join_verdicts([replace(one, flags=flags), replace(verdicts_of("F")[0], flags=())], "majority", "p")
    assert undecided.flags == flags
    for values in ((7.0, 8.0), (None, 8.0)):
        scores = [replace(score, flags=(Flag.ANSWER_INSTRUCTS_JUDGE,)) for score in scored(*values)]
        assert join_scores(scores, "mean", "p").flags == (Flag.ANSWER_INSTRUCTS_JUDGE,)


def scored(*values: float | None) -> list[Score]:
    return [Score("a", ScoreState.FAILED if value is None else ScoreState.SCORED, "j", value=value) for value in values]


def test_scores_are_joined_by_median_or_mean() -> None:
    assert join_scores(scored(2, 3, 10), "majority", "p").value == 3
    assert join_scores(scored(2, 3, 10), "mean", "p").value == 5
    assert "apart by 8" in join_scores(scored(2, 3, 10), "mean", "p").reason


def test_half_of_the_scores_missing_is_no_score() -> None:
    assert join_scores(scored(7, None), "mean", "p").value is None
    assert join_scores(scored(7, 8, None), "mean", "p").value == 7.5


def test_every_member_is_asked_and_one_that_is_down_does_not_decide(ledger: ReplyStore) -> None:
    with JudgeServer() as good, JudgeServer(brain=lambda messages: "no idea") as bad:
        members = [openai_judge(good, ledger, model="a"), openai_judge(good, ledger, model="b")]
        panel = PanelJudge([*members, openai_judge(bad, ledger, model="c")], "majority")
        assert [v.state for v in panel.compare(pairs(3))] == [VerdictState.WIN] * 3
        [score] = panel.score([Answer(Prompt.of("q"), "quality=8 x")])
        assert score.value == 8
    assert panel.name.startswith("panel:majority(openai:a")
