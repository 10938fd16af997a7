"""transformers' server, restricted to the project's models: `python -m fairlead.release.guarded_server`.

`transformers serve` loads whatever model folder or hub id a client names, lets clients load and unload models, and
requires no key. Here a guard stands before its handlers and lets only requests for the served models through.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
from collections.abc import Sequence
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEY_VARIABLE = "FAIRLEAD_SERVE_KEY"
_GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_LARGEST_BODY = 16 * 2**20  # bytes


class ModelGuard:
    """ASGI middleware that lets through requests for the served models that carry the key, and refuses all others.

    Args:
        app: the server to protect.
        models: names of the served models.
        key: bearer token that a client must send; None for no authentication.
    """

    def __init__(self, app: ASGIApp, models: Sequence[str], key: str | None) -> None:
        self._app, self._models, self._key = app, tuple(models), key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        if path == "/health":
            await self._app(scope, receive, send)
        elif not self._has_key(scope):
            await _error(401, "authentication failed: send the key as a bearer token")(scope, receive, send)
        elif path == "/v1/models" and method == "GET":
            await JSONResponse({"object": "list", "data": [_model(name) for name in self._models]})(
                scope, receive, send
            )
        elif path.startswith("/v1/models/") and method == "GET":
            name = path.removeprefix("/v1/models/")
            response = JSONResponse(_model(name)) if name in self._models else self._not_found()
            await response(scope, receive, send)
        elif path in _GENERATING and method == "POST":
            await self._generate(scope, receive, send)
        else:
            await _error(404, f"{method} {path} is not served")(scope, receive, send)

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        refusal = _error(413, f"the request is larger than {_LARGEST_BODY} bytes") if body is None else None
        refusal = refusal or self._refusal(body or b"")
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    def _refusal(self, body: bytes) -> JSONResponse | None:
        """The error response to a request; None where the request may pass."""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return _error(400, "the request is not JSON")
        model = content.get("model") if isinstance(content, dict) else None
        return None if model in self._models else self._not_found()

    def _not_found(self) -> JSONResponse:
        known = ", ".join(self._models)
        return _error(404, f"no such model; the served models are {known}", code="model_not_found")

    def _has_key(self, scope: Scope) -> bool:
        if self._key is None:
            return True
        sent = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(sent, f"Bearer {self._key}".encode())


def _model(name: str) -> dict[str, Any]:
    """A model in the format of OpenAI's API."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "fairlead"}


async def _read(receive: Receive) -> bytes | None:
    """The body of a request; None if it is too large."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        parts.append(message.get("body", b""))
        if sum(map(len, parts)) > _LARGEST_BODY:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _error(status: int, message: str, *, code: str | None = None) -> JSONResponse:
    """An error in the format of OpenAI's API."""
    content = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return JSONResponse(content, status_code=status)


def build_app(models: Sequence[str], key: str | None, origins: Sequence[str] = ()) -> ASGIApp:
    """transformers' chat and completion server behind the guard; models are folders in the working directory.

    Args:
        origins: web pages whose scripts may call it; without any, browsers refuse those of every page.
    """
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.completion import CompletionHandler
    from transformers.cli.serving.model_manager import ModelManager
    from transformers.cli.serving.response import ResponseHandler
    from transformers.cli.serving.server import build_server
    from transformers.cli.serving.utils import GenerationState

    manager = ModelManager(trust_remote_code=False)
    state = GenerationState()
    shared: dict[str, Any] = {"model_manager": manager, "generation_state": state}
    app = build_server(
        manager,
        ChatCompletionHandler(**shared, chat_template_kwargs={}),
        completion_handler=CompletionHandler(**shared),
        response_handler=ResponseHandler(**shared, chat_template_kwargs={}),
        transcription_handler=None,  # the guard lets no request through to it
        systemone_handler=None,
        generation_state=state,
    )
    return with_origins(ModelGuard(app, models, key), origins)


def with_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The app, callable from scripts of these web pages; a browser's question beforehand needs no key."""
    if not origins:
        return app
    return CORSMiddleware(app, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"])


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--allow-origin", action="append", default=[])
    parser.add_argument("models", nargs="+")
    options = parser.parse_args()
    app = build_app(options.models, os.environ.get(KEY_VARIABLE) or None, options.allow_origin)
    uvicorn.run(app, host=options.host, port=options.port, log_level="info")


if __name__ == "__main__":
    main()
