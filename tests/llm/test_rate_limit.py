"""The gate finds a server's limit: from outside, against servers that count in different ways."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fairlead.llm.rate_limit import Concurrency

Serve = Callable[[int], Awaitable[bool]]


async def throughput(gate: Concurrency, serve: Serve, seconds: float) -> float:
    """Requests per second that `serve` took on, with as many waiting as there are places."""
    loop = asyncio.get_running_loop()
    end, served = loop.time() + seconds, 0

    async def client(order: int) -> None:
        nonlocal served
        while loop.time() < end:
            await gate.enter(order)
            entered = loop.time()
            taken = await serve(gate.active)
            served += taken
            gate.leave(refused=not taken, took=loop.time() - entered)
            if not taken:
                await asyncio.sleep(0.05)

    await asyncio.gather(*(client(order) for order in range(64)))
    return served / seconds


def test_a_server_that_counts_per_second_is_used_almost_fully() -> None:
    """Requests that come back together must not go out together for ever: its burst is two requests."""
    rate, burst = 100.0, 2.0

    async def run() -> float:
        loop = asyncio.get_running_loop()
        tokens, refilled = burst, loop.time()

        async def serve(_: int) -> bool:
            nonlocal tokens, refilled
            now = loop.time()
            tokens, refilled = min(burst, tokens + (now - refilled) * rate), now
            if tokens < 1:
                return False
            tokens -= 1
            await asyncio.sleep(0.1)
            return True

        gate = Concurrency(most=64)
        await throughput(gate, serve, 2.0)  # finds the limit
        return await throughput(gate, serve, 3.0)

    assert asyncio.run(run()) > rate / 1.3


def test_a_server_with_few_places_is_used_almost_fully() -> None:
    async def run() -> float:
        async def serve(active: int) -> bool:
            if active > 6:
                return False
            await asyncio.sleep(0.05)
            return True

        gate = Concurrency(most=64)
        await throughput(gate, serve, 1.5)
        return await throughput(gate, serve, 2.0)

    assert asyncio.run(run()) > 6 / 0.05 / 1.3


@pytest.mark.parametrize("limit", [1.0, 1.9, 2.9, 3.9, 4.9, 7.5])
def test_no_limit_is_a_dead_end_once_the_server_answers_again(limit: float) -> None:
    """The places in use are whole ones: 3.9 lets three in, and three in use must count as full."""

    async def run() -> float:
        async def serve(_: int) -> bool:
            await asyncio.sleep(0.01)
            return True

        gate = Concurrency(most=64, start=limit)
        gate._settled = True
        await throughput(gate, serve, 1.0)
        return gate.limit

    assert asyncio.run(run()) > limit + 2
