"""Endpoints that fail: what passes costs only time, what cannot work is one line at once."""

from __future__ import annotations

import json
import re
import socket
import time
from collections import Counter
from typing import Any

import pytest

from fairlead.cost.judge_cost import estimate
from fairlead.errors import JudgeError
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import VerdictState
from tests.support.judging import answers, openai_judge, pairs, says, state_of
from tests.support.misbehaving import JudgeServer


@pytest.mark.parametrize("fault", ["limit", "limit_wait", "error_500", "overloaded", "reset", "truncated"])
def test_a_passing_fault_of_the_wire_costs_only_time(ledger: ReplyStore, fault: str) -> None:
    with JudgeServer(faults={fault: 0.3}, retry_after=0.1) as server:
        states = Counter(v.state for v in openai_judge(server, ledger).compare(pairs(20)))
        assert server.stats.faults[fault] > 3
        assert server.stats.repeated == 0
    assert states == {VerdictState.WIN: 20}


def test_a_hanging_request_is_given_up_and_tried_again(ledger: ReplyStore) -> None:
    with JudgeServer(faults={"hang": 0.1}) as server:
        states = Counter(v.state for v in openai_judge(server, ledger, timeout_s=0.3).compare(pairs(20)))
        assert server.stats.faults["hang"] > 0
    assert states == {VerdictState.WIN: 20}


def test_retry_after_is_waited_for(ledger: ReplyStore) -> None:
    times: list[float] = []

    def later(request: Any, headers: Any) -> tuple[int, dict[str, str], str] | None:
        times.append(time.monotonic())
        return (429, {"retry-after": "0.6"}, "{}") if len(times) == 1 else None

    with JudgeServer(override=later) as server:
        list(openai_judge(server, ledger, both_orders=False).compare(pairs(1)))
    assert times[1] - times[0] >= 0.6


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, '{"error": {"message": "Incorrect API key"}}', "authentication failed"),
        (403, "{}", "authentication failed"),
        (402, '{"error": {"message": "Insufficient balance. score: 10"}}', "payment required"),
        (429, '{"error": {"message": "You exceeded", "code": "insufficient_quota"}}', "payment required"),
        (404, '{"error": {"message": "The model `m` does not exist"}}', "no such model or address"),
        (200, "<html>welcome</html>", "the response is not a chat completion"),
        (200, "[]", "the response is not a chat completion"),
        (500, "oops", "does not answer: 500"),
        (400, '{"error": {"message": "bad request"}}', "rejects every request: 400"),
        # as transformers serve says that it has another model
        (400, "{\"detail\": \"Server is pinned to 'x'; requested 'm'.\"}", "Server is pinned to 'x'"),
        (400, '{"error": {"message": "temperature is not supported"}}', "set temperature: null"),
        (429, '{"error": {"message": "slow down"}}', "asks to wait 4000 s"),
    ],
)
def test_what_cannot_work_is_one_line_at_once(ledger: ReplyStore, status: int, body: str, message: str) -> None:
    requests = 0

    def always(request: Any, headers: Any) -> tuple[int, dict[str, str], str]:
        nonlocal requests
        requests += 1
        return status, {"retry-after": "4000"} if "slow down" in body else {}, body

    with (
        JudgeServer(override=always) as server,
        pytest.raises(JudgeError, match=message) as raised,
    ):
        list(openai_judge(server, ledger).compare(pairs(1000)))
    assert server.base_url in str(raised.value)
    assert "\n" not in str(raised.value)
    assert requests <= 100, "of 2000"
    assert not list(ledger.replies())


@pytest.mark.timeout(60)  # a thousand pairs that each wait for every retry take an hour
def test_an_endpoint_that_is_down_is_one_line_at_once(ledger: ReplyStore) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with pytest.raises(JudgeError, match="does not answer: cannot be reached"):
            list(openai_judge(url, ledger).compare(pairs(1000)))


def test_an_endpoint_that_is_too_slow_is_one_line_that_names_the_settings(ledger: ReplyStore) -> None:
    with (
        JudgeServer(latency=5) as server,
        pytest.raises(JudgeError, match=r"does not answer: no reply within 0\.1 s.*raise timeout_s") as raised,
    ):
        list(openai_judge(server, ledger, timeout_s=0.1).compare(pairs(1000)))
    assert server.base_url in str(raised.value)
    assert server.stats.requests < 100, "of 2000"


def test_an_endpoint_that_dies_on_the_way_stops_the_run_and_the_rerun_goes_on(ledger: ReplyStore) -> None:
    dead = False

    def dies(request: Any, headers: Any) -> tuple[int, dict[str, str], str] | None:
        return (500, {}, "gone") if dead or server.stats.paid >= 60 else None

    with JudgeServer(override=dies) as server:
        judge = openai_judge(server, ledger, max_retries=0)
        with pytest.raises(JudgeError, match="stopped answering: 500"):
            list(judge.compare(pairs(500)))
        server.override = None
        assert {v.state for v in judge.compare(pairs(100))} == {VerdictState.WIN}
        assert server.stats.repeated == 0


def test_a_judge_of_whom_nothing_can_be_read_is_given_up_early(ledger: ReplyStore) -> None:
    with (
        JudgeServer(brain=says("I like turtles.")) as server,
        pytest.raises(JudgeError, match=r"none of its first 20 judgements can be read, the last is 'I like turtles\.'"),
    ):
        list(openai_judge(server, ledger, concurrency=4).compare(pairs(5000)))
    assert server.stats.paid < 100


def test_a_server_without_structured_output_is_asked_without(ledger: ReplyStore) -> None:
    with JudgeServer(formats=False) as server:
        states = {v.state for v in openai_judge(server, ledger).compare(pairs(20))}
        assert states == {VerdictState.WIN}
        assert server.stats.repeated == 0
        asked = server.stats.requests
        assert {v.state for v in openai_judge(server, ledger).compare(pairs(20))} == states
        [planned] = estimate(openai_judge(server, ledger), pairs(20))
        assert server.stats.requests == asked, "a rerun sends nothing, although it would first ask with it"
        assert planned.calls == 0
    assert all("response_format" not in r.request for r in ledger.replies())
    assert {v.state for v in openai_judge(server, ledger).compare(pairs(20))} == states, "the server is off"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "The prompt was filtered", "code": "content_filter", "innererror": {"code": "Responsible"}}),
        (403, {"message": "flagged", "code": 403, "metadata": {"reasons": ["violence"], "flagged_input": "…"}}),
    ],
)
def test_a_question_that_is_moderated_away_is_refused_and_stops_nobody(
    ledger: ReplyStore, status: int, error: dict[str, Any]
) -> None:
    def moderated(request: Any, headers: Any) -> tuple[int, dict[str, str], str] | None:
        flagged = "question 1" in request["messages"][1]["content"]
        return (status, {}, json.dumps({"error": error})) if flagged else None

    with JudgeServer(override=moderated) as server:
        states = [v.state for v in openai_judge(server, ledger).compare(pairs(3))]
        assert states == [VerdictState.WIN, VerdictState.REFUSED, VerdictState.WIN]
        sent = server.stats.requests
        assert [v.state for v in openai_judge(server, ledger).compare(pairs(3))] == states
        assert server.stats.requests == sent, "a refusal is not asked for again"


def test_a_limit_of_the_rate_that_speaks_of_billing_is_waited_for(ledger: ReplyStore) -> None:
    bodies = iter(
        [
            (429, {}, '{"error": {"message": "Rate limit reached; see your plan and billing details"}}'),
            (429, {"retry-after": "0.1"}, '{"error": {"message": "slow down", "code": "insufficient_quota"}}'),
        ]
    )
    with JudgeServer(override=lambda request, headers: next(bodies, None)) as server:
        assert state_of(server, ledger) is VerdictState.WIN


@pytest.mark.parametrize("number", ["9" * 400, "1e400", "-1e400", "NaN", "true", '"many"'])
def test_counts_and_log_probabilities_that_cannot_be_are_none(ledger: ReplyStore, number: str) -> None:
    alternatives = f'[{{"token": "8", "logprob": {number}}}, {{"token": "6", "logprob": {number}}}]'
    token = f'{{"token": "8", "top_logprobs": {alternatives}}}'
    message = '{"content": "{\\"score\\": 8}"}'
    choice = f'{{"message": {message}, "finish_reason": "st\\ud800op", "logprobs": {{"content": [{token}]}}}}'
    body = f'{{"choices": [{choice}], "usage": {{"prompt_tokens": {number}, "completion_tokens": {number}}}}}'
    with JudgeServer(override=lambda request, headers: (200, {}, body)) as server:
        [score] = openai_judge(server, ledger, expected_score=True).score(answers(1))
    [reply] = ledger.replies()
    assert (reply.input_tokens, reply.output_tokens) == (None, None)
    assert score.value == 8


@pytest.mark.parametrize(
    ("status", "message", "remedy"),
    [
        (400, "This model's maximum context length is 4096 tokens", "lower max_tokens in the judge section"),
        (413, "request entity too large", "lower max_tokens in the judge section"),
        (422, "unknown field", "check the judge section against what the endpoint accepts"),
        (500, "oops", "check base_url, the server and the network"),
    ],
)
def test_the_remedy_fits_the_cause(ledger: ReplyStore, status: int, message: str, remedy: str) -> None:
    body = json.dumps({"error": {"message": message}})
    with (
        JudgeServer(override=lambda request, headers: (status, {}, body)) as server,
        pytest.raises(JudgeError, match=re.escape(remedy)) as raised,
    ):
        list(openai_judge(server, ledger, max_retries=1).compare(pairs(10)))
    assert ("base_url" in str(raised.value).partition("—")[2]) == (status == 500)
