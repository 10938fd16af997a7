"""Many coroutines at once, their results in the order of the items, and items pulled when there is room."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Comparison, Prompt, VerdictState
from tests.support.judging import openai_judge, pairs
from tests.support.misbehaving import JudgeServer, by_quality


def test_order_is_kept_although_the_first_reply_comes_last(ledger: ReplyStore) -> None:
    def slow_first(messages: Any) -> str:
        if "question 0" in messages[1]["content"]:
            time.sleep(0.2)
        return by_quality(messages)

    items = [*pairs(1, "second"), *pairs(30)[1:]]
    with JudgeServer(brain=slow_first) as server:
        verdicts = list(openai_judge(server, ledger).compare(items))
    assert [v.comparison_id for v in verdicts] == [c.id for c in items]
    assert [v.state for v in verdicts] == [VerdictState.LOSS] + [VerdictState.WIN] * 29


def test_works_inside_a_running_event_loop(ledger: ReplyStore) -> None:
    async def inside(judge: Any) -> list[VerdictState]:
        return [verdict.state for verdict in judge.compare(pairs(2))]

    with JudgeServer() as server:
        assert asyncio.run(inside(openai_judge(server, ledger))) == [VerdictState.WIN] * 2


def test_items_are_pulled_lazily(ledger: ReplyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.llm.async_map.LOOK_AHEAD", 10)
    pulled = 0

    def endless() -> Any:
        nonlocal pulled
        for number in itertools.count():
            pulled += 1
            yield Comparison(Prompt.of(f"q {number}"), "quality=2", "quality=1")

    with JudgeServer() as server:
        stream = openai_judge(server, ledger).compare(endless())
        first = list(itertools.islice(stream, 20))
        stream.close()
        assert len(first) == 20
        assert pulled <= 31
