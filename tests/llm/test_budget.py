"""Limits on calls and cost."""

from __future__ import annotations

import pytest

from fairlead.errors import BudgetError
from fairlead.llm.budget import Budget
from fairlead.llm.store.reply_store import ReplyStore
from tests.support.judging import openai_judge, pairs
from tests.support.misbehaving import JudgeServer


def test_max_calls_stops_cleanly_and_a_rerun_goes_on(ledger: ReplyStore) -> None:
    with JudgeServer() as server:
        for _ in range(2):
            with pytest.raises(BudgetError, match="max_calls 7 is reached"):
                list(openai_judge(server, ledger, max_calls=7).compare(pairs(10)))
        assert len(list(openai_judge(server, ledger, max_calls=7).compare(pairs(10)))) == 10
        assert server.stats.paid == 20
        assert server.stats.repeated == 0


def test_max_cost_is_never_exceeded(ledger: ReplyStore) -> None:
    prices = {"price_per_million_input_tokens": 10.0, "price_per_million_output_tokens": 50.0, "max_tokens": 64}
    with JudgeServer() as server:
        judge = openai_judge(server, ledger, max_cost=0.2, **prices)
        with pytest.raises(BudgetError, match=r"max_cost 0\.2 does not cover another call"):
            list(judge.compare(pairs(200)))
    [total] = ledger.totals()
    assert total.cost is not None
    assert 0.1 < total.cost <= 0.2
    first = next(iter(ledger.replies()))
    assert first.cost == pytest.approx((first.input_tokens * 10 + first.output_tokens * 50) / 1e6)


def test_nothing_is_set_aside_when_no_call_is_under_way() -> None:
    budget = Budget()
    for most in (0.1, 0.2, 0.3):
        budget.reserve(most)
    for most in (0.3, 0.2, 0.1):
        budget.release(most)
    assert (budget.in_flight, budget.reserved) == (0, 0.0), "the sum of these floats is not"
