"""What the tests of judges share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers.misbehaving import JudgeServer

from fairlead.judges.base import Judge
from fairlead.judges.build import build_judge
from fairlead.judges.ledger import Ledger
from fairlead.judges.settings import OpenAISettings
from fairlead.records import Answer, Comparison, Prompt


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def openai_judge(server: JudgeServer | str, ledger: Ledger | None, folder: Path = Path(), **settings: Any) -> Judge:
    url = server if isinstance(server, str) else server.base_url
    given = {"kind": "openai", "model": "m", "base_url": url, "api_key_env": None, "timeout_s": 5.0, **settings}
    return build_judge(OpenAISettings.model_validate(given), ledger=ledger, folder=folder)


def pairs(count: int, best: str = "first") -> list[Comparison]:
    """Comparisons whose better answer is marked for the test server."""
    high, low = ("quality=8", "quality=3") if best == "first" else ("quality=3", "quality=8")
    return [Comparison(Prompt.of(f"question {n}"), f"{high} answer", f"{low} reply") for n in range(count)]


def answers(count: int, quality: int = 7) -> list[Answer]:
    return [Answer(Prompt.of(f"question {n}"), f"quality={quality} answer") for n in range(count)]


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.judges.session._FIRST_WAIT", 0.05)
