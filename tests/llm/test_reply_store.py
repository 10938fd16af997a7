"""The ledger: every reply before it is used, whole or not at all, found again by whoever asks the same."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fairlead.errors import JudgeError
from fairlead.llm.store.reply_store import ENVIRONMENT, ReplyStore, StoredReply
from fairlead.records import VerdictState
from tests.support.judging import answers, openai_judge, pairs
from tests.support.killed_judge import judging
from tests.support.misbehaving import JudgeServer

REPLY = StoredReply(
    "k1",
    "q/1",
    "e",
    "m",
    "t@1",
    "{}",
    '{"verdict": "A"}',
    "stop",
    None,
    None,
    10,
    5,
    0.5,
    0.1,
    1.0,
    "A",
    "pairwise",
    "ab",
)


def test_a_reply_comes_back_as_it_was(place: str) -> None:
    odd = replace(REPLY, key="k2", text="ünïcode ☃ '; DROP TABLE replies; --", refusal="no", cost=None, verdict=None)
    with ReplyStore(place) as ledger:
        ledger.store_all([REPLY, odd])
    with ReplyStore(place) as ledger:
        assert ledger.find("k1") == REPLY
        assert ledger.find("k2") == odd
        assert ledger.find("k3") is None
        assert list(ledger.replies()) == [REPLY, odd]


def test_the_first_answer_to_a_question_stays(place: str) -> None:
    with ReplyStore(place) as ledger:
        ledger.store_all([REPLY])
        ledger.store_all([replace(REPLY, text="another", verdict="B")])
        assert ledger.find("k1") == REPLY


def test_totals_add_up_and_what_is_not_known_is_none(place: str) -> None:
    with ReplyStore(place) as ledger:
        unpriced = replace(REPLY, key="x", model="n", cost=None, input_tokens=None, output_tokens=None, verdict=None)
        ledger.store_all([REPLY, replace(REPLY, key="k2", latency=0.3), unpriced])
        first, second = ledger.totals()
    assert (first.model, first.replies, first.read, first.input_tokens, first.output_tokens) == ("m", 2, 2, 20, 10)
    assert (first.counted, first.counted_chars, first.cost) == (2, 4, 1.0)
    assert first.latency == pytest.approx(0.2)
    assert (second.replies, second.read, second.input_tokens, second.counted, second.cost) == (1, 0, None, 0, None)


def test_replies_are_found_by_the_beginning_of_subject_or_key(place: str) -> None:
    with ReplyStore(place) as ledger:
        ledger.store_all([REPLY, replace(REPLY, key="z%", subject="p_q")])
        assert [reply.key for reply in ledger.about("q/")] == ["k1"]
        assert [reply.key for reply in ledger.about("z%")] == ["z%"]
        assert [reply.key for reply in ledger.about("p_")] == ["z%"]
        assert ledger.about("%") == []


def test_what_is_forgotten_is_asked_again(place: str) -> None:
    with ReplyStore(place) as ledger, JudgeServer() as server:
        list(openai_judge(server, ledger).score(answers(2)))
        ledger.forget([next(iter(ledger.replies())).key])
        list(openai_judge(server, ledger).score(answers(2)))
        assert server.stats.paid == 3


def test_the_verdict_that_was_read_stands_in_the_ledger(place: str) -> None:
    replies = iter(['{"verdict": "B"}', "no idea", '{"verdict": "tie"}'])
    with ReplyStore(place) as ledger, JudgeServer(brain=lambda messages: next(replies)) as server:
        list(openai_judge(server, ledger, concurrency=1).compare(pairs(1)))
        assert [reply.verdict for reply in ledger.replies()] == ["B", None, "tie"]


_PRESENT_BEFORE = """
CREATE TABLE replies (
    key TEXT PRIMARY KEY, question TEXT NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, template TEXT NOT NULL,
    request TEXT NOT NULL, text TEXT NOT NULL, finish TEXT NOT NULL, refusal TEXT, logprobs TEXT,
    input_tokens INTEGER, output_tokens INTEGER, cost DOUBLE PRECISION, latency DOUBLE PRECISION NOT NULL,
    at DOUBLE PRECISION NOT NULL, verdict TEXT
)
"""
_BEFORE = {
    "k1": ("1f3a/ab", "pairwise_v1@3c", "A"),
    "k2": ("1f3a/ba/corrected", "pairwise_v1@3c+correction_v1@7d", None),
    "k3": ("77aa/score", "score_v1@4e", "7.5"),
    "k4": ("88bb/score/corrected", "score_v1@4e+correction_v1@7d", "3"),
    "k5": ("99cc", "decide/1", "10"),
}


@pytest.fixture
def earlier(place: str) -> str:
    """A ledger as earlier versions wrote it: a question's variant and attempt in its id, and no claims."""
    statements = [_PRESENT_BEFORE] + [
        f"INSERT INTO replies VALUES ('{key}', '{question}', 'e', 'm', '{template}', '{{}}', 'x', 'stop', NULL, NULL,"
        f" 10, 5, 0.5, 0.1, 1.0, {'NULL' if verdict is None else repr(verdict)})"
        for key, (question, template, verdict) in _BEFORE.items()
    ]
    _execute(place, *statements)
    return place


def _execute(place: str, *statements: str) -> None:
    """Runs statements without the code under test."""
    if place.startswith("postgresql"):
        import psycopg

        with psycopg.connect(place) as server:
            for statement in statements:
                server.execute(statement)
        return
    file = sqlite3.connect(place)
    with file:
        for statement in statements:
            file.execute(statement)
    file.close()


def test_a_ledger_of_an_earlier_version_opens_and_says_what_each_request_was(earlier: str) -> None:
    for _ in range(2):
        with ReplyStore(earlier) as ledger:
            rows = [(r.key, r.subject, r.purpose, r.variant, r.attempt, r.verdict) for r in ledger.replies()]
    assert rows == [
        ("k1", "1f3a", "pairwise", "ab", 1, "A"),
        ("k2", "1f3a", "pairwise", "ba", 2, None),
        ("k3", "77aa", "score", "", 1, "7.5"),
        ("k4", "88bb", "score", "", 2, "3"),
        ("k5", "99cc", "plain", "", 1, None),
    ]


def test_a_ledger_from_before_the_verdict_column_opens(earlier: str) -> None:
    _execute(earlier, "ALTER TABLE replies DROP COLUMN verdict")
    with ReplyStore(earlier) as ledger:
        assert [(reply.subject, reply.verdict) for reply in ledger.about("k1")] == [("1f3a", None)]
        ledger.note_readings([("k1", "A")])
        assert [reply.verdict for reply in ledger.about("1f3a")] == ["A", None]


def test_processes_that_open_an_earlier_ledger_at_once_migrate_it_once(earlier: str) -> None:
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            ReplyStore(earlier).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with ReplyStore(earlier) as ledger:
        assert [reply.purpose for reply in ledger.replies()].count("pairwise") == 2


def test_a_file_that_several_open_at_once_for_the_first_time_is_opened_by_all(tmp_path: Path) -> None:
    """SQLite's timeout does not cover the change of a file's journal mode, so without a retry some fail."""
    failures: list[BaseException] = []

    def open_it(path: Path) -> None:
        try:
            ReplyStore(path).close()
        except BaseException as error:
            failures.append(error)

    for number in range(60):
        path = tmp_path / f"{number}.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE other (column1)")  # a file in the mode that SQLite starts with
        threads = [threading.Thread(target=open_it, args=(path,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_several_writers_at_once_lose_nothing(place: str) -> None:
    def write(first: int) -> None:
        with ReplyStore(place) as ledger:
            for number in range(first, first + 20):
                ledger.store_all([replace(REPLY, key=f"k{number}")])

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 10, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ReplyStore(place) as ledger:
        assert len(list(ledger.replies())) == 30 + 20 + 20


def test_projects_that_share_a_ledger_share_what_was_paid(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, place)
    with JudgeServer() as server:
        for project in ("one", "two"):
            with ReplyStore.of_project(tmp_path / project) as ledger:
                assert [v.state for v in openai_judge(server, ledger).compare(pairs(2))] == [VerdictState.WIN] * 2
        assert server.stats.paid == 4


@pytest.mark.slow
def test_five_kills_leave_the_ledger_of_an_undisturbed_run(tmp_path: Path, place: str) -> None:
    count = 150
    server_faults = {"error_500": 0.1, "prose": 0.05, "refusal": 0.05}
    with JudgeServer(faults=server_faults, latency=0.02) as server:
        for kill in range(5):
            process = judging(server, place, count)
            for _ in range(1 + 6 * (kill + 1)):  # "ready" and some verdicts
                process.stdout.readline()
            process.kill()
            process.communicate()
            assert process.returncode == -signal.SIGKILL, "the run must be cut off, not be done"
        disturbed = judging(server, place, count)
        lines = disturbed.communicate()[0].splitlines()
        assert len(lines) == count + 1
        undisturbed = judging(server, str(tmp_path / "undisturbed.sqlite"), count)
        assert undisturbed.communicate()[0].splitlines() == lines
    assert _contents(place) == _contents(str(tmp_path / "undisturbed.sqlite"))


def _contents(place: str) -> list[StoredReply]:
    """Everything but the clock."""
    with ReplyStore(place) as ledger:
        return sorted((replace(reply, latency=0, at=0) for reply in ledger.replies()), key=lambda reply: reply.key)


def test_a_file_that_is_no_ledger_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("no database " * 100)
    with pytest.raises(JudgeError, match=r"the ledger cannot be used: .*move the file away"):
        ReplyStore(path)


def test_a_server_that_is_not_there_is_one_line_without_the_password() -> None:
    pytest.importorskip("psycopg", reason="the Postgres ledger is not tested: pip install 'fairlead[postgres]'")
    with pytest.raises(JudgeError, match="the ledger's server cannot be used") as caught:
        ReplyStore("postgresql://me:geheim@127.0.0.1:1/db?connect_timeout=2")
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None
