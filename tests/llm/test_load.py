"""Many judgements against a server that fails in every known way: none lost, none from a fault, none paid for twice."""

from __future__ import annotations

from collections import Counter

from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Answer, Prompt, ScoreState
from tests.support.judging import openai_judge
from tests.support.misbehaving import HTTP_FAULTS, TEXT_FAULTS, JudgeServer

FAULTS = {"limit": 0.03, "limit_wait": 0.03, "error_500": 0.03, "overloaded": 0.02, "hang": 0.002, "reset": 0.02,
          "truncated": 0.02, "slow": 0.008, "empty": 0.01, "cut": 0.01, "prose": 0.01, "wrong_json": 0.01,
          "refusal": 0.01, "foreign": 0.01}  # fmt: skip


def test_a_fifth_of_faults_loses_nothing_scores_nothing_and_pays_nothing_twice(ledger: ReplyStore) -> None:
    quality = {f"question {n}": 1 + n % 10 for n in range(600)}
    items = [Answer(Prompt.of(prompt), f"quality={value}") for prompt, value in quality.items()]
    with JudgeServer(faults=FAULTS, slots=20, latency=0.01, retry_after=0.05, tail=0.5) as server:
        scores = list(openai_judge(server, ledger, timeout_s=2.0, max_retries=12).score(items))
        stats = server.stats
    assert [score.answer_id for score in scores] == [item.id for item in items]
    for item, score in zip(items, scores, strict=True):
        assert score.value in (None, float(quality[item.prompt.text]))
    states = Counter(score.state for score in scores)
    assert states[ScoreState.FAILED] == 0
    # A fault of the text meets a request and its correction independently, at 6 % each.
    assert 0 < states[ScoreState.REFUSED] < 30
    assert states[ScoreState.SCORED] > 560
    assert stats.repeated == 0
    assert stats.paid == sum(row.replies for row in ledger.totals())
    assert all(stats.faults[kind] for kind in (*HTTP_FAULTS, *TEXT_FAULTS) if FAULTS[kind] >= 0.01)
    assert stats.most_at_once <= 20


def test_a_slow_server_that_works_on_after_time_outs_is_not_kept_busy_with_what_nobody_waits_for(
    ledger: ReplyStore,
) -> None:
    """Three requests fit into the time limit; eight at once would time out for ever, because all are sent again."""
    items = [Answer(Prompt.of(f"q{n}"), "quality=5") for n in range(30)]
    with JudgeServer(in_turn=True, latency=0.1) as server:
        scores = list(openai_judge(server, ledger, timeout_s=0.35).score(items))
        assert [score.value for score in scores] == [5.0] * 30
        assert server.stats.requests < 3 * 30


def test_the_limit_of_a_server_is_found(ledger: ReplyStore) -> None:
    items = [Answer(Prompt.of(f"q{n}"), "quality=5") for n in range(150)]
    with JudgeServer(slots=6, latency=0.1) as server:
        assert all(score.value == 5 for score in openai_judge(server, ledger).score(items))
        seconds = (server.stats.last or 0) - (server.stats.first or 0)
        assert server.stats.most_at_once == 6
    assert seconds < 2.5 * 150 * 0.1 / 6
