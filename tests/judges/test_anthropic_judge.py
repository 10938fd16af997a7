"""The judge behind Anthropic's Messages API, against a real server on this machine that speaks that API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fairlead.config.judges import AnthropicSettings
from fairlead.errors import JudgeError
from fairlead.judges.base import Judge
from fairlead.judges.build import build_judge
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Comparison, Prompt, ScoreState, VerdictState
from tests.support.judging import answers, pairs
from tests.support.misbehaving import JudgeServer

KEY = "sk-ant-api03-very-secret"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def judge_of(server: JudgeServer, ledger: ReplyStore | None, **settings: Any) -> Judge:
    section = {"kind": "anthropic", "model": "claude-9", "base_url": server.base_url, "timeout_s": 5.0, **settings}
    return build_judge(AnthropicSettings.model_validate(section), store=ledger, folder=Path())


def test_verdicts_and_scores(ledger: ReplyStore) -> None:
    with JudgeServer(key=KEY) as server:
        assert [v.state for v in judge_of(server, ledger).compare(pairs(2, "second"))] == [VerdictState.LOSS] * 2
        assert [s.value for s in judge_of(server, ledger).score(answers(2))] == [7.0, 7.0]
        assert server.stats.paid == 6
    first = next(iter(ledger.replies()))
    assert first.input_tokens is not None
    assert first.finish == "end_turn"
    assert json.loads(first.request)["body"]["system"].startswith("You ")


def test_json_of_a_fixed_form_is_asked_for_and_left_out_where_the_model_does_not_offer_it(ledger: ReplyStore) -> None:
    bodies: list[dict[str, Any]] = []

    def older(body: dict[str, Any], headers: Any) -> tuple[int, dict[str, str], str] | None:
        bodies.append(body)
        if "output_config" not in body:
            return None
        return 400, {}, json.dumps({"error": {"message": "output_config.format: not supported by this model"}})

    with JudgeServer() as server:
        list(judge_of(server, ledger, temperature=0.0).score(answers(1)))
        server.override = older
        [score] = judge_of(server, None).score(answers(1))
        assert score.value == 7.0
        assert [set(body) - {"model", "max_tokens", "messages", "system"} for body in bodies] == [
            {"output_config"},
            set(),
        ]
    sent = json.loads(next(iter(ledger.replies())).request)["body"]
    assert sent["temperature"] == 0.0
    assert sent["output_config"]["format"]["schema"]["properties"]["score"]["enum"] == list(range(1, 11))


def test_nothing_is_paid_for_twice_across_runs(ledger: ReplyStore) -> None:
    with JudgeServer() as server:
        for _ in range(2):
            list(judge_of(server, ledger).compare(pairs(3)))
        assert (server.stats.paid, server.stats.repeated) == (6, 0)


@pytest.mark.parametrize("fault", ["limit", "limit_wait", "error_500", "overloaded", "reset", "truncated"])
def test_a_passing_fault_of_the_wire_costs_only_time(ledger: ReplyStore, fault: str) -> None:
    with JudgeServer(faults={fault: 0.3}, retry_after=0.05) as server:
        assert {v.state for v in judge_of(server, ledger).compare(pairs(20))} == {VerdictState.WIN}
        assert server.stats.faults[fault] > 0
        assert server.stats.repeated == 0


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        ({"content": [{"type": "text", "text": ""}], "stop_reason": "refusal"}, "refused"),
        ({"content": [{"type": "text", "text": '{"score": 4'}], "stop_reason": "max_tokens"}, "unreadable"),
        ({"content": [], "stop_reason": "end_turn"}, "unreadable"),
        (
            {
                "content": [{"type": "thinking", "thinking": "score: 2"}, {"type": "text", "text": '{"score": 9}'}],
                "stop_reason": "end_turn",
            },
            "scored",
        ),
    ],
)
def test_state_of_a_reply(ledger: ReplyStore, reply: dict[str, Any], state: str) -> None:
    with JudgeServer(override=lambda body, headers: (200, {}, json.dumps(reply))) as server:
        [score] = judge_of(server, ledger).score(answers(1))
    assert score.state == ScoreState(state)
    assert score.value == (9.0 if state == "scored" else None)


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "authentication failed"), (402, "payment required"), (404, "no such model or address")],
)
def test_what_cannot_work_is_one_line_without_the_key(ledger: ReplyStore, status: int, message: str) -> None:
    body = json.dumps({"type": "error", "error": {"type": "e", "message": f"bad {KEY}"}})
    with (
        JudgeServer(override=lambda _, headers: (status, {}, body)) as server,
        pytest.raises(JudgeError, match=message) as caught,
    ):
        list(judge_of(server, ledger).compare(pairs(1)))
    assert KEY not in str(caught.value)


def test_a_missing_key_is_named(ledger: ReplyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with JudgeServer() as server, pytest.raises(JudgeError, match="ANTHROPIC_API_KEY is not set"):
        list(judge_of(server, ledger).compare(pairs(1)))


def test_an_unreadable_reply_is_asked_once_more_in_alternating_turns(ledger: ReplyStore) -> None:
    seen: list[list[str]] = []

    def brain(messages: Any) -> str:
        seen.append([m["role"] for m in messages])
        return "no idea" if len(messages) == 1 else '{"verdict": "tie"}'

    with JudgeServer(brain=brain) as server:
        judge = judge_of(server, ledger, both_orders=False)
        [verdict] = judge.compare([Comparison(Prompt.of("q"), "a", "b")])
    assert verdict.state is VerdictState.TIE
    assert seen == [["user"], ["user", "assistant", "user"]]
