"""Retries that do not wait, and a judge behind a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.judging import quick_retries
from tests.support.misbehaving import JudgeServer

__all__ = ["quick_retries"]


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer() as opened:
        yield opened


@pytest.fixture
def judge(server: JudgeServer) -> str:
    return f"openai:m@{server.base_url}"
