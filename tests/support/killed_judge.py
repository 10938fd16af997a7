"""Judgements in a process of its own, which a test kills."""

from __future__ import annotations

from fairlead.llm.store.reply_store import ReplyStore
from tests.support.judging import openai_judge, pairs
from tests.support.misbehaving import JudgeServer
from tests.support.processes import Forked


def judging(server: JudgeServer, place: str, count: int) -> Forked:
    """A process that prints "ready" and then the state of each of `count` verdicts."""
    return Forked(_judge, server.base_url, place, count)


def _judge(url: str, where: str, count: int) -> None:
    with ReplyStore(where) as ledger:
        print("ready", flush=True)
        for verdict in openai_judge(url, ledger, concurrency=16).compare(pairs(count)):
            print(verdict.state, flush=True)
