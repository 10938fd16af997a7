"""Judges behind the test server, and things to judge."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.config.judges import OpenAISettings
from fairlead.judges.base import Judge
from fairlead.judges.build import build_judge
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Answer, Comparison, Prompt, VerdictState
from tests.support.misbehaving import Brain, JudgeServer, Messages


def openai_judge(server: JudgeServer | str, ledger: ReplyStore | None, folder: Path = Path(), **settings: Any) -> Judge:
    url = server if isinstance(server, str) else server.base_url
    section = {"kind": "openai", "model": "m", "base_url": url, "api_key_env": None, "timeout_s": 5.0, **settings}
    return build_judge(OpenAISettings.model_validate(section), store=ledger, folder=folder)


def pairs(count: int, best: str = "first") -> list[Comparison]:
    """Comparisons whose better answer is marked for the test server."""
    high, low = ("quality=8", "quality=3") if best == "first" else ("quality=3", "quality=8")
    return [Comparison(Prompt.of(f"question {n}"), f"{high} answer", f"{low} reply") for n in range(count)]


def answers(count: int, quality: int = 7) -> list[Answer]:
    return [Answer(Prompt.of(f"question {n}"), f"quality={quality} answer") for n in range(count)]


def says(*texts: str) -> Any:
    """A brain that says these texts in turn, the last for ever."""
    replies = itertools.chain(texts, itertools.repeat(texts[-1]))
    return lambda messages: next(replies)


def state_of(server: JudgeServer, ledger: ReplyStore, **settings: Any) -> VerdictState:
    [verdict] = openai_judge(server, ledger, **settings).compare(pairs(1))
    return verdict.state


def reply(content: str | None, finish: str = "stop", **message: Any) -> str:
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": None})


_SHOWN = re.compile(r"BEGIN ANSWER ([AB]) (\w+)\n(.*?)\nEND ANSWER \1 \2", re.DOTALL)


def answers_in_order(messages: Messages) -> tuple[str, str]:
    """The two answers of a pairwise question, in the order shown."""
    asked = next(m["content"] for m in messages if m["role"] == "user")
    by_letter = {letter: text for letter, _, text in _SHOWN.findall(asked)}
    return by_letter["A"], by_letter["B"]


def pairwise(decide: Callable[[str, str], int]) -> Brain:
    """A brain that says A where `decide(first shown, second shown)` is positive, B where it is negative, else tie.

    Asked for a score it says 5.
    """

    def brain(messages: Messages) -> str:
        if "BEGIN ANSWER A" not in str(messages):
            return '{"reason": "r", "score": 5}'
        sign = decide(*answers_in_order(messages))
        return json.dumps({"reason": "r", "verdict": "A" if sign > 0 else "B" if sign < 0 else "tie"})

    return brain


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[ReplyStore]:
    with ReplyStore(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.llm.retry._FIRST_WAIT_S", 0.05)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    """A server that judges by the `quality=` of an answer."""
    with JudgeServer() as opened:
        yield opened


@pytest.fixture
def judge(server: JudgeServer) -> str:
    return f"openai:m@{server.base_url}"
