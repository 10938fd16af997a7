"""Keys come from the environment and are shown nowhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from fairlead.config.judges import OpenAISettings
from fairlead.errors import JudgeError
from fairlead.llm.client import ChatRequest
from fairlead.llm.endpoint import Endpoint
from fairlead.llm.http_errors import ApiKey
from fairlead.llm.open_client import open_client
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.records import Message, VerdictState
from tests.support.judging import openai_judge, pairs
from tests.support.misbehaving import JudgeServer


def test_the_key_comes_from_the_environment_and_shows_nowhere(
    ledger: ReplyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-verysecret0123456789"
    monkeypatch.setenv("MY_KEY", secret)
    with JudgeServer(key=secret) as server:
        judge = openai_judge(server, ledger, api_key_env="MY_KEY")
        [verdict] = judge.compare(pairs(1))
        assert verdict.state is VerdictState.WIN
        server.key = "another"
        with pytest.raises(JudgeError, match="authentication failed") as raised:
            list(judge.compare(pairs(2)))
    seen: BaseException | None = raised.value
    while seen is not None:
        assert secret not in repr(seen)
        assert secret not in str(seen)
        seen = seen.__cause__
    assert "Incorrect API key provided: [key]" in str(raised.value)
    assert "check the key in MY_KEY" in str(raised.value)
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes()


def test_a_missing_key_is_named(ledger: ReplyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with JudgeServer() as server, pytest.raises(JudgeError, match="OPENAI_API_KEY is not set"):
        list(openai_judge(server, ledger, api_key_env="OPENAI_API_KEY").compare(pairs(1)))


@pytest.mark.parametrize(
    "pasted", ["AKIAIOSFODNN7EXAMPLE", "sk_live_0123456789abcdef", "abcdef0123456789abcdef0123456789"]
)
def test_a_key_pasted_as_the_variables_name_is_not_shown(ledger: ReplyStore, pasted: str) -> None:
    key = ApiKey(pasted, "http://host/v1")
    with pytest.raises(JudgeError, match="the environment variable that api_key_env names is not set") as raised:
        _ = key.value
    assert pasted not in str(raised.value)
    assert pasted not in repr(key)


def test_a_key_that_no_header_takes_is_one_line(ledger: ReplyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-schlüssel\u2028")
    with JudgeServer() as server, pytest.raises(JudgeError, match="the key in MY_KEY has characters") as raised:
        list(openai_judge(server, ledger, api_key_env="MY_KEY").compare(pairs(1)))
    assert "schl" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["http://host:sk-SECRET/v1", "http://host/sk-SECRET01/v1", "http://host/\x1b]0;SECRET\x07"]
)
def test_an_address_that_may_hold_a_key_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValidationError) as raised:
        OpenAISettings.model_validate({"kind": "openai", "model": "m", "base_url": url})
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_an_address_that_no_client_takes_is_one_line_without_the_address(
    kind: Literal["openai", "anthropic"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "x")
    client = open_client(Endpoint(kind, "m", 5, 5.0, base_url="http://ä..SECRET/v1", api_key_env="SOME_KEY"))
    request = ChatRequest("s", "plain", "t", (Message("user", "x"),))
    with pytest.raises(JudgeError, match="base_url is not a valid URL") as raised:
        asyncio.run(client.send(client.body(request)))
    assert "SECRET" not in str(raised.value)
