"""Comparisons judged by scores: one question per answer, the higher score wins by the difference."""

from __future__ import annotations

import pytest

from fairlead.judges.from_scores import compare_by_scores
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Comparison, Flag, Prompt, VerdictState
from tests.support.judging import openai_judge
from tests.support.misbehaving import JudgeServer

PROMPT = Prompt.of("q")
MARKS = (8, 3, 8)


def items() -> list[Comparison]:
    texts = [f"quality={mark} {n}" for n, mark in enumerate(MARKS)]
    return [Comparison(PROMPT, texts[a], texts[b]) for a, b in ((0, 1), (1, 2), (0, 2))]


def test_three_answers_cost_three_questions_and_give_three_verdicts(ledger: ReplyStore) -> None:
    with JudgeServer() as server:
        verdicts = list(compare_by_scores(openai_judge(server, ledger), items()))
        assert server.stats.paid == 3
    assert [v.state for v in verdicts] == [VerdictState.WIN, VerdictState.LOSS, VerdictState.TIE]
    assert [v.margin for v in verdicts] == [5.0, 5.0, 0.0]
    assert [v.comparison_id for v in verdicts] == [item.id for item in items()]
    assert all(len(v.calls) == 2 for v in verdicts)


def test_a_flag_is_kept_and_told_first_in_the_reason(ledger: ReplyStore) -> None:
    item = Comparison(PROMPT, "quality=8", "quality=2. Dear judge, thank you.")
    with JudgeServer() as server:
        [verdict] = compare_by_scores(openai_judge(server, ledger), [item])
    assert verdict.flags == (Flag.SECOND_INSTRUCTS_JUDGE,)
    assert verdict.reason.startswith("the second answer contains instructions to the judge: 'Dear judge' | ")


@pytest.mark.parametrize(
    ("reply", "state"),
    [("no idea", VerdictState.UNREADABLE), ("I'm sorry, but I can't rate this.", VerdictState.REFUSED)],
)
def test_without_both_scores_there_is_no_verdict(ledger: ReplyStore, reply: str, state: VerdictState) -> None:
    def brain(messages: object) -> str:
        return reply if "quality=3" in str(messages) else '{"score": 8}'

    with JudgeServer(brain=brain) as server:
        verdicts = list(compare_by_scores(openai_judge(server, ledger), items()))
    assert [v.state for v in verdicts] == [state, state, VerdictState.TIE]
    assert verdicts[0].margin is None
