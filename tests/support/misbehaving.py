"""A judge's endpoint for tests: real HTTP, the APIs of OpenAI and Anthropic, and every fault on demand.

Faults of the text (prose, refusals …) depend on the request alone, as with a model at temperature 0; HTTP faults
depend on the request and on how often it came, so that a retry may succeed. Both follow from a seed: two runs of the
same requests meet the same server.

    with JudgeServer(faults={"error_500": 0.1}) as server:
        ask(server.base_url)
        assert server.stats.repeated == 0

By itself, in a process of its own: python -m tests.support.misbehaving '{"rate": 100}'; prints its port, and serves its
statistics at /stats.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

HTTP_FAULTS = ("limit", "limit_wait", "error_500", "overloaded", "hang", "reset", "truncated")
TEXT_FAULTS = ("empty", "cut", "prose", "wrong_json", "refusal", "foreign")
FAULTS = (*HTTP_FAULTS, *TEXT_FAULTS, "slow")

Messages = Sequence[Mapping[str, str]]
Brain = Callable[[Messages], str]
# status, headers, body of an answer that replaces the server's own; None leaves it to the server
Override = Callable[[Mapping[str, Any], Mapping[str, str]], "tuple[int, dict[str, str], str] | None"]

_QUALITY = re.compile(r"quality=(\d+)")


def by_quality(messages: Messages) -> str:
    """Judges by the marks quality=N in the texts: two marks are a comparison, one is a score."""
    asked = next(m["content"] for m in messages if m["role"] == "user")
    marks = [int(mark) for mark in _QUALITY.findall(asked)]
    if len(marks) == 2:
        verdict = "tie" if marks[0] == marks[1] else "A" if marks[0] > marks[1] else "B"
        return json.dumps({"reason": f"{marks[0]} against {marks[1]}", "verdict": verdict})
    return json.dumps({"reason": "as marked", "score": min(max(marks[0] if marks else 5, 1), 10)})


@dataclass
class Stats:
    """What the server saw.

    Attributes:
        replies: per request, how many complete replies went out; each of them would have been paid for.
        faults: faults injected, by kind; `too_many` are refusals because of the server's own limits.
        most_at_once: most requests worked on at the same time.
    """

    requests: int = 0
    replies: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    first: float | None = None
    last: float | None = None

    @property
    def paid(self) -> int:
        return sum(self.replies.values())

    @property
    def repeated(self) -> int:
        """Replies that were paid for although the same request had been answered before."""
        return sum(count - 1 for count in self.replies.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "paid": self.paid,
            "repeated": self.repeated,
            "distinct": len(self.replies),
            "faults": dict(self.faults),
            "most_at_once": self.most_at_once,
            "seconds": None if self.first is None or self.last is None else self.last - self.first,
        }


class JudgeServer:
    """Serves /v1/chat/completions and /v1/messages on 127.0.0.1, in a thread.

    Args:
        brain: the text that a request deserves.
        faults: share of requests that meet each fault; see FAULTS.
        seed: which requests they are.
        latency: seconds of an ordinary reply.
        slots: more requests at once are refused with 429.
        rate: more requests per second are refused with 429.
        in_turn: works on one request after the other, also on those that nobody waits for any more.
        retry_after: seconds that `limit_wait` asks for.
        tail: seconds of a slow reply.
        hang: seconds until a hanging request is dropped; longer than any client waits.
        key: the key it wants, if any.
        formats: whether it knows response_format.
        override: replaces the answer to a request, for whatever is not above.
    """

    def __init__(
        self,
        *,
        brain: Brain = by_quality,
        faults: Mapping[str, float] | None = None,
        seed: int = 0,
        latency: float = 0.0,
        slots: int | None = None,
        rate: float | None = None,
        in_turn: bool = False,
        retry_after: float = 0.2,
        tail: float = 1.0,
        hang: float = 60.0,
        key: str | None = None,
        formats: bool = True,
        override: Override | None = None,
    ) -> None:
        self.brain, self.seed, self.key, self.formats, self.override = brain, seed, key, formats, override
        self.faults = dict(faults or {})
        unknown = set(self.faults) - set(FAULTS)
        if unknown or sum(self.faults.values()) > 1:
            raise ValueError(f"faults: unknown {sorted(unknown)}, or shares above 1")
        self.latency, self.slots, self.rate = latency, slots, rate
        self.retry_after, self.tail, self.hang = retry_after, tail, hang
        self.stats = Stats()
        self.port = 0
        self._active = 0
        self._turns = asyncio.Semaphore(1 if in_turn else 2**16)
        self._seen: Counter[str] = Counter()
        self._tokens, self._refilled = 0.0, time.monotonic()

    # --- life -------------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self.serve(started.set))
        self._loop.close()

    async def serve(self, started: Callable[[], None]) -> None:
        self._stop = asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            try:
                await self._connection(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                connections.discard(task)
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", self.port, backlog=1024, limit=2**22)
        self.port = server.sockets[0].getsockname()[1]
        started()
        await self._stop.wait()
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    # --- HTTP -----------------------------------------------------------------------------------------------

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *rest = head.split("\r\n")
            method, path, _ = line.split(" ", 2)
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (item.partition(":") for item in rest if item)
            }
            content = await reader.readexactly(int(headers.get("content-length", "0")))
            if method == "GET":
                await _send(writer, 200, json.dumps(self.stats.to_json() | {"replies": dict(self.stats.replies)}))
                continue
            if not await self._request(path, headers, content, writer):
                return

    async def _request(
        self, path: str, headers: Mapping[str, str], content: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Answers one request; False where the connection is to be dropped."""
        now = time.monotonic()
        self.stats.first = self.stats.first or now
        self.stats.last = now
        self.stats.requests += 1
        try:
            body = json.loads(content)
        except ValueError:
            await _send(writer, 400, _error("not JSON"))
            return True
        if self.override is not None and (answer := self.override(body, headers)) is not None:
            status, extra, text = answer
            await _send(writer, status, text, extra)
            return True
        sent = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key", "")
        if self.key is not None and sent != self.key:
            await _send(writer, 401, _error(f"Incorrect API key provided: {sent}"))
            return True
        if not path.endswith(("/chat/completions", "/messages")):
            await _send(writer, 404, _error("no such address"))
            return True
        if not self.formats and "response_format" in body:
            await _send(writer, 400, _error("response_format is not supported"))
            return True
        if self._too_many():
            self.stats.faults["too_many"] += 1
            await _send(writer, 429, _error("too many requests"))
            return True
        self._active += 1
        self.stats.most_at_once = max(self.stats.most_at_once, self._active)
        try:
            return await self._answer(body, hashlib.sha256(content).hexdigest(), "messages" in path, writer)
        finally:
            self._active -= 1
            self.stats.last = time.monotonic()

    def _too_many(self) -> bool:
        if self.slots is not None and self._active >= self.slots:
            return True
        if self.rate is None:
            return False
        now = time.monotonic()
        burst = max(1.0, self.rate / 20)
        self._tokens = min(burst, self._tokens + (now - self._refilled) * self.rate)
        self._refilled = now
        if self._tokens < 1:
            return True
        self._tokens -= 1
        return False

    async def _answer(self, body: Mapping[str, Any], key: str, anthropic: bool, writer: asyncio.StreamWriter) -> bool:
        self._seen[key] += 1
        fault = self._fault(key)
        if fault:
            self.stats.faults[fault] += 1
        if fault in ("limit", "limit_wait"):
            extra = {"retry-after": f"{self.retry_after:g}"} if fault == "limit_wait" else {}
            await _send(writer, 429, _error("rate limit reached; score: 10"), extra)
            return True
        if fault in ("error_500", "overloaded"):
            await _send(writer, 500 if fault == "error_500" else 503, _error('{"verdict": "A", "score": 9}'))
            return True
        if fault == "hang":
            await asyncio.sleep(self.hang)
            return False
        async with self._turns:
            await asyncio.sleep(self.tail if fault == "slow" else self.latency)
        text, finish = _text(fault, self.brain, body)
        payload = _anthropic(body, text, finish) if anthropic else _openai(body, text, finish)
        if fault in ("reset", "truncated"):
            return await _break(writer, payload, fault)
        await _send(writer, 200, payload)
        self.stats.replies[key] += 1
        return True

    def _fault(self, key: str) -> str | None:
        """The fault that this request meets this time."""
        for kinds, salt in (((*HTTP_FAULTS, "slow"), f"wire {self._seen[key]}"), (TEXT_FAULTS, "text")):
            draw = int(hashlib.sha256(f"{self.seed} {salt} {key}".encode()).hexdigest()[:13], 16) / 16**13
            for kind in kinds:
                draw -= self.faults.get(kind, 0.0)
                if draw < 0:
                    return kind
        return None


def _text(fault: str | None, brain: Brain, body: Mapping[str, Any]) -> tuple[str, str]:
    """The text of a reply and why it ended. Every fault holds a trap: a letter or number that is no verdict."""
    good = brain(body["messages"])
    match fault:
        case "empty":
            return "", "stop"
        case "cut":
            return good[: len(good) // 2] + " score: 1", "length"
        case "prose":
            return "There are 3 points here, A good one and B plain one, and it depends on 10 things.", "stop"
        case "wrong_json":
            return '{"opinion": {"A": 7, "B": 9}}', "stop"
        case "refusal":
            return "I'm sorry, but I can't judge this. Rating 10 things is beyond me.", "stop"
        case "foreign":
            return "Die erste Antwort ist deutlich besser als die zweite, aber beide haben 2 Fehler.", "stop"
    return good, "stop"


def _openai(body: Mapping[str, Any], text: str, finish: str) -> str:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body.get("model", ""),
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": sum(len(m["content"]) for m in body["messages"]) // 4,
                "completion_tokens": len(text) // 4,
                "total_tokens": 0,
            },
        }
    )


def _anthropic(body: Mapping[str, Any], text: str, finish: str) -> str:
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body.get("model", ""),
            "content": [{"type": "text", "text": text}],
            "stop_reason": {"stop": "end_turn", "length": "max_tokens"}.get(finish, finish),
            "stop_sequence": None,
            "usage": {
                "input_tokens": sum(len(m["content"]) for m in body["messages"]) // 4,
                "output_tokens": len(text) // 4,
            },
        }
    )


def _error(message: str) -> str:
    return json.dumps({"error": {"message": message, "type": "error", "code": None}})


async def _send(writer: asyncio.StreamWriter, status: int, text: str, extra: Mapping[str, str] | None = None) -> None:
    data = text.encode()
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in (extra or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + data)
    await writer.drain()


async def _break(writer: asyncio.StreamWriter, payload: str, fault: str) -> bool:
    """Half of a reply: as a broken connection, or as a complete response whose JSON is not."""
    half = payload.encode()[: len(payload) // 2]
    if fault == "truncated":
        await _send(writer, 200, half.decode())
        return True
    writer.write(
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n".encode()
    )
    writer.write(half)
    await writer.drain()
    transport = writer.transport
    transport.abort()
    return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("arguments", help="JSON of JudgeServer's arguments")
    server = JudgeServer(**json.loads(parser.parse_args().arguments))

    async def serve() -> None:
        await server.serve(lambda: print(server.port, flush=True))

    asyncio.run(serve())


if __name__ == "__main__":
    main()
