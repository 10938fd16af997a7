"""The guard in front of transformers' server: served models only, with the key where one is set."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from fairlead.errors import ConfigError
from fairlead.release.guarded_server import KEY_VARIABLE, ModelGuard, with_origins
from fairlead.release.serve import example_call, refuse_open_address

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
    assert client().get("/v1/models/sft").json() == listed["data"][1]
    assert client().get("/v1/models/gpt-4").status_code == 404


def test_a_web_page_may_call_only_where_it_is_allowed() -> None:
    page, other = "http://localhost:3000", "http://evil.example"
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}

    def allowed(app: ASGIApp, origin: str) -> str | None:
        reply = TestClient(app).options("/v1/chat/completions", headers={"origin": origin, **asks})
        return reply.headers.get("access-control-allow-origin")

    guarded = ModelGuard(Starlette(routes=[Route("/v1/chat/completions", echo, methods=["POST"])]), MODELS, "secret")
    assert allowed(guarded, page) is None
    opened = with_origins(guarded, [page])
    assert allowed(opened, page) == page
    assert allowed(opened, other) is None
    headers = {"origin": page, "authorization": "Bearer secret"}
    reply = TestClient(opened).post("/v1/chat/completions", json={"model": "dpo"}, headers=headers)
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, page)
    unkeyed = TestClient(opened).post("/v1/chat/completions", json={"model": "dpo"}, headers={"origin": page})
    assert unkeyed.status_code == 401


@pytest.mark.parametrize(
    ("host", "address"),
    [("localhost", "localhost"), ("0.0.0.0", "localhost"), ("::1", "[::1]"), ("10.0.0.5", "10.0.0.5")],
)
def test_the_example_call_is_one_that_a_shell_runs(host: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    command = shlex.split(example_call(host, 8123, MODELS).splitlines()[1])
    assert command[:2] == ["curl", f"http://{address}:8123/v1/chat/completions"]
    assert f"Authorization: Bearer ${KEY_VARIABLE}" in command
    assert json.loads(command[-1])["model"] == "dpo"


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
