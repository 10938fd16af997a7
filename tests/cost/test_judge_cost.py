"""What a stage will cost is said before anything is spent, and is what is then spent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fairlead.config.judges import LocalSettings
from fairlead.cost.judge_cost import estimate
from fairlead.judges.build import build_judge
from fairlead.judges.panel import PanelJudge
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Comparison, Prompt
from tests.support.judging import answers, openai_judge, pairs
from tests.support.misbehaving import JudgeServer

PRICES = {"price_per_million_input_tokens": 1e6, "price_per_million_output_tokens": 2e6}


def test_the_calls_that_are_estimated_are_the_calls_that_are_made(ledger: ReplyStore) -> None:
    with JudgeServer() as server:
        [before] = estimate(openai_judge(server, ledger), pairs(5))
        assert (before.questions, before.stored, before.calls) == (10, 0, 10)
        assert server.stats.requests == 0
        list(openai_judge(server, ledger).compare(pairs(5)))
        assert server.stats.paid == before.calls
        [after] = estimate(openai_judge(server, ledger), pairs(6))
        assert (after.questions, after.stored, after.calls) == (12, 10, 2)
        assert server.stats.paid == before.calls


def test_after_a_few_replies_the_cost_is_known_from_them(ledger: ReplyStore) -> None:
    with JudgeServer() as server:
        [blind] = estimate(openai_judge(server, ledger, **PRICES), pairs(20))
        list(openai_judge(server, ledger, **PRICES).compare(pairs(2)))
        [informed] = estimate(openai_judge(server, ledger, **PRICES), pairs(20))
        list(openai_judge(server, ledger, **PRICES).compare(pairs(20)))
    spent = sum(reply.cost or 0 for reply in ledger.replies())
    first = spent * 4 / 40
    assert informed.cost == pytest.approx(spent - first, rel=0.1)
    assert "4 earlier replies" in informed.basis
    assert blind.most_cost is not None
    assert informed.most_cost is not None
    assert spent < informed.most_cost <= blind.most_cost


def test_without_prices_there_is_no_cost(ledger: ReplyStore) -> None:
    with JudgeServer() as server:
        [estimates] = estimate(openai_judge(server, ledger), answers(3))
    assert (estimates.calls, estimates.cost, estimates.most_cost) == (3, None, None)


def test_the_same_question_twice_is_one_call(ledger: ReplyStore) -> None:
    twice = [Comparison(Prompt.of("q"), "quality=1", "quality=2")] * 2
    with JudgeServer() as server:
        [estimates] = estimate(openai_judge(server, ledger), twice)
    assert estimates.questions == 2


def test_an_estimate_needs_no_key_and_loads_no_weights(
    ledger: ReplyStore, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    [estimates] = estimate(openai_judge("http://127.0.0.1:1/v1", ledger, api_key_env="OPENAI_API_KEY"), pairs(1))
    assert estimates.calls == 2
    (shutil.copytree(tiny_model, tmp_path / "model") / "model.safetensors").write_bytes(b"no weights")
    local = LocalSettings(kind="local", model="./model")
    [estimates] = estimate(build_judge(local, store=ledger, folder=tmp_path), pairs(1))
    assert estimates.calls == 2


def test_a_panel_is_estimated_member_by_member(ledger: ReplyStore) -> None:
    with JudgeServer() as server:
        members = [openai_judge(server, ledger, model=model) for model in ("m", "n")]
        estimates = estimate(PanelJudge(members, "majority"), pairs(1))
    assert [row.calls for row in estimates] == [2, 2]
