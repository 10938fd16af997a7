"""No request is paid for twice, and only what is missing is asked again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import VerdictState
from tests.support.judging import answers, openai_judge, pairs, says
from tests.support.misbehaving import JudgeServer


def test_the_same_question_is_never_paid_for_twice(ledger: ReplyStore) -> None:
    with JudgeServer() as server:
        first = list(openai_judge(server, ledger).compare([*pairs(5), *pairs(5)]))
        assert server.stats.paid == 10
        again = list(openai_judge(server, ledger).compare(pairs(5)))
        assert server.stats.paid == 10
    assert again == first[:5] == first[5:]


def test_another_model_template_temperature_or_criterion_is_another_question(
    ledger: ReplyStore, tmp_path: Path
) -> None:
    (tmp_path / "mine.jinja").write_text("{{ fence }} {{ prompt }} A: {{ answer_a }} B: {{ answer_b }}")
    changes: list[dict[str, Any]] = [
        {},
        {"model": "other"},
        {"temperature": 0.5},
        {"temperature": None},
        {"criteria": "brevity"},
        {"max_tokens": 99},
        {"structured": "off"},
        {"pairwise_template": "mine.jinja"},
    ]
    names = set()
    with JudgeServer() as server:
        for number, change in enumerate(changes, 1):
            judge = openai_judge(server, ledger, tmp_path, **change)
            names.add(judge.name)
            list(judge.compare(pairs(1)))
            assert server.stats.paid == 2 * number, change
    assert len(names) == len(changes)


def test_settings_that_only_change_speed_ask_nothing_again(ledger: ReplyStore) -> None:
    with JudgeServer() as server:
        first = openai_judge(server, ledger)
        list(first.compare(pairs(1)))
        other = openai_judge(server, ledger, concurrency=1, timeout_s=9.0, max_retries=1, max_calls=1)
        list(other.compare(pairs(1)))
        assert first.name == other.name
        assert server.stats.paid == 2


def test_outages_are_asked_again_by_the_next_run_and_only_they(ledger: ReplyStore) -> None:
    broken = True

    def half_broken(request: Any, headers: Any) -> tuple[int, dict[str, str], str] | None:
        if broken and "question 1" in request["messages"][1]["content"]:
            return 500, {}, "score: 10"
        return None

    with JudgeServer(override=half_broken) as server:
        judge = openai_judge(server, ledger, max_retries=1)
        first = list(judge.compare(pairs(3)))
        assert [v.state for v in first] == [VerdictState.WIN, VerdictState.FAILED, VerdictState.WIN]
        assert "500" in first[1].reason
        broken = False
        assert [v.state for v in judge.compare(pairs(3))] == [VerdictState.WIN] * 3
        assert server.stats.paid == 6


def test_a_reply_that_another_process_stored_first_is_the_answer(ledger: ReplyStore) -> None:
    with JudgeServer(brain=says('{"score": 3}')) as server:
        judge = openai_judge(server, ledger)
        store = ledger.store_all

        def store_second(replies: Any) -> set[str]:
            store([replace(reply, text='{"score": 9}') for reply in replies])
            return store(replies)

        ledger.store_all = store_second  # type: ignore[method-assign]
        [score] = judge.score(answers(1))
    assert score.value == 9.0
