"""The guard in front of transformers' server: served models only, with the key where one is set."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from fairlead.errors import ConfigError
from fairlead.release.guarded_server import KEY_VARIABLE, ModelGuard
from fairlead.release.serve import refuse_open_address

MODELS = ("base", "sft", "dpo")


async def echo(request: Request) -> JSONResponse:
    return JSONResponse({"reached": request.url.path, "body": await request.json()})


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


def client(key: str | None = None) -> TestClient:
    paths = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/load_model", "/reset")
    routes = [Route(path, echo, methods=["POST"]) for path in paths]
    return TestClient(ModelGuard(Starlette(routes=[*routes, Route("/health", health)]), MODELS, key))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_a_served_model_is_reached_with_the_whole_request(path: str) -> None:
    body = {"model": "dpo", "messages": [{"role": "user", "content": "x" * 100_000}]}
    assert client().post(path, json=body).json() == {"reached": path, "body": body}


@pytest.mark.parametrize("model", ["../secret", "/etc", "org/name", "", None, 7, ["dpo"], {"a": 1}])
def test_a_model_of_any_other_name_is_not_found(model: Any) -> None:
    reply = client().post("/v1/chat/completions", json={"model": model})
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "model_not_found"
    assert "base, sft, dpo" in reply.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[1", b"\xff", b"[]", b'"dpo"', b"[" * 100_000])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    assert client().post("/v1/completions", content=body).status_code in (400, 404)


def test_the_models_are_listed() -> None:
    listed = client().get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == list(MODELS)


@pytest.mark.parametrize("path", ["/load_model", "/reset", "/v1/audio/transcriptions", "/docs"])
def test_nothing_else_is_served(path: str) -> None:
    assert client().post(path, json={"model": "dpo"}).status_code == 404
    assert client().get(path).status_code == 404


def test_a_key_is_demanded_where_one_is_set() -> None:
    guarded, body = client("secret"), {"model": "dpo"}
    for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}):
        assert guarded.post("/v1/completions", json=body, headers=headers).status_code == 401
        assert guarded.get("/v1/models", headers=headers).status_code == 401
    assert guarded.post("/v1/completions", json=body, headers={"authorization": "Bearer secret"}).status_code == 200
    assert guarded.get("/health").status_code == 200


def test_an_address_that_others_reach_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    for host in ("localhost", "127.0.0.1", "::1"):
        refuse_open_address(host)
    for host in ("0.0.0.0", "192.168.1.2", "::"):
        with pytest.raises(ConfigError, match=f"no key is set.*{KEY_VARIABLE}"):
            refuse_open_address(host)
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    refuse_open_address("0.0.0.0")
