"""Two processes on one store send no request twice, and a claim never outlives the process that made it for long."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fairlead.errors import JudgeError
from fairlead.llm.store.reply_store import ReplyStore, StoredReply, new_owner
from fairlead.records import ScoreState
from tests.support.judging import answers, openai_judge
from tests.support.killed_judge import judging
from tests.support.misbehaving import JudgeServer

REPLY = StoredReply("k1", "q", "e", "m", "t@1", "{}", "x", "stop")
ELSEWHERE = "another-machine/1/abc"


def test_a_claimed_request_is_nobody_elses_until_its_reply_is_there(place: str) -> None:
    with ReplyStore(place) as store:
        one, two = new_owner(), new_owner()
        assert store.claim({"k1", "k2"}, one, 60) == {"k1", "k2"}
        assert store.claim({"k1", "k2"}, one, 60) == {"k1", "k2"}, "it has them already"
        assert store.claim({"k1", "k2", "k3"}, two, 60) == {"k3"}
        store.store_all([REPLY])
        assert store.claim({"k1", "k2"}, two, 60) == set(), "the reply is there, and the other is being asked for"
        store.forget(["k1"])
        assert store.claim({"k1", "k2"}, two, 60) == {"k1"}, "its claim ended with the reply"
        store.release(one, {"k2"})
        assert store.claim({"k2"}, two, 60) == {"k2"}
        store.release(two)
        assert store.claim({"k1", "k2", "k3"}, one, 60) == {"k1", "k2", "k3"}


def test_a_claim_expires_unless_it_is_renewed(place: str) -> None:
    with ReplyStore(place) as store:
        store.claim({"k1"}, ELSEWHERE, -1)
        assert store.claim({"k1"}, new_owner(), 60) == {"k1"}
        store.claim({"k2"}, ELSEWHERE, -1)
        store.renew(ELSEWHERE, 60)
        assert store.claim({"k2"}, new_owner(), 60) == set()


def test_the_claim_of_a_process_of_this_machine_ends_with_the_process(place: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = f"{socket.gethostname()}/{process.pid}/abc"
    with ReplyStore(place) as store:
        store.claim({"k1"}, owner, 3600)
        assert store.claim({"k1"}, new_owner(), 60) == set()
        process.kill()
        process.communicate()
        assert store.claim({"k1"}, new_owner(), 60) == {"k1"}


def test_threads_that_claim_the_same_requests_in_any_order_share_them(place: str) -> None:
    claimed: list[str] = []

    def claim(keys: list[str]) -> None:
        with ReplyStore(place) as store:
            owner = new_owner()
            for start in range(0, len(keys), 5):
                claimed.extend(store.claim(keys[start : start + 5], owner, 60))
                store.renew(owner, 60)

    keys = [f"k{number}" for number in range(50)]
    threads = [threading.Thread(target=claim, args=(order,)) for order in (keys, keys[::-1], keys[25:] + keys[:25])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(keys)


def test_two_processes_on_one_ledger_pay_for_every_reply_once(place: str) -> None:
    count = 60
    with JudgeServer(faults={"error_500": 0.1, "reset": 0.05}, latency=0.05) as server:
        processes = [judging(server, place, count) for _ in range(2)]
        lines = [process.communicate()[0].splitlines() for process in processes]
        assert lines[0] == lines[1] == ["ready", *["win"] * count]
        assert (server.stats.paid, server.stats.repeated) == (2 * count, 0)


def test_a_process_goes_on_where_a_killed_one_was_asking(place: str) -> None:
    with JudgeServer(latency=0.1) as server:
        killed, other = judging(server, place, 60), judging(server, place, 60)
        for _ in range(8):
            killed.stdout.readline()
        killed.kill()
        killed.communicate()
        assert other.communicate()[0].splitlines() == ["ready", *["win"] * 60]


def test_a_request_that_is_claimed_elsewhere_is_waited_for(place: str) -> None:
    with ReplyStore(place) as ledger, JudgeServer() as server:
        [score] = openai_judge(server, ledger).score(answers(1))
        [reply] = ledger.replies()
        ledger.forget([reply.key])
        ledger.claim({reply.key}, ELSEWHERE, 60)
        stored = threading.Timer(0.3, lambda: ledger.store_all([replace(reply, text='{"score": 2}')]))
        stored.start()
        [other] = openai_judge(server, ledger).score(answers(1))
        stored.join()
        assert (score.value, other.value) == (7, 2)
        assert server.stats.paid == 1


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_request_that_failed_here_may_be_asked_elsewhere(place: str, tmp_path: Path, status: int) -> None:
    with JudgeServer() as server, ReplyStore(place) as ledger:
        with ReplyStore(tmp_path / "other.sqlite") as other:
            list(openai_judge(server, other).score(answers(1)))
            [reply] = other.replies()
        server.override = lambda body, headers: (status, {}, "no")
        with contextlib.suppress(JudgeError):
            [score] = openai_judge(server, ledger, max_retries=1).score(answers(1))
            assert score.state is ScoreState.FAILED
        assert ledger.claim({reply.key}, ELSEWHERE, 60) == {reply.key}


def test_an_owner_of_whom_nothing_is_known_is_taken_to_be_alive(place: str) -> None:
    with ReplyStore(place) as store:
        for number, owner in enumerate(
            ["odd", f"{socket.gethostname()}/x/y", f"{socket.gethostname()}/{os.getpid()}/z"]
        ):
            store.claim({f"k{number}"}, owner, 60)
            assert store.claim({f"k{number}"}, new_owner(), 60) == set()
