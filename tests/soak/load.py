"""Sends calls at a rate, whether or not earlier ones are answered, and samples the servers' memory
meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import httpx
import psutil

from tests.soak.calls import Call, Outcome, Result, make_call

ANSWER_SECONDS = 120.0
"""Longest that a call may take; one that takes longer is wrong."""
LOOK_SECONDS = 15.0
"""How often the load is fitted to what the server answers."""


@dataclass
class Watched:
    """A server under load."""

    name: str
    url: str
    process: psutil.Process
    draw: Callable[[], Call]
    places: int
    outcomes: list[Outcome] = field(default_factory=list)
    resident: list[tuple[float, int]] = field(default_factory=list)
    """(seconds, bytes)"""

    def client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
        return httpx.AsyncClient(base_url=self.url, timeout=ANSWER_SECONDS, limits=limits)


async def measure_capacity(servers: Sequence[Watched], *, seconds: float) -> list[float]:
    """Calls a second that each server answers while all are kept just busy: a caller for each place."""
    loop = asyncio.get_running_loop()

    async def keep_busy(server: Watched, client: httpx.AsyncClient, end: float) -> int:
        answered = 0
        while loop.time() < end:
            call = server.draw()
            if call.bad or call.leaves_after is not None:
                continue
            outcome = await make_call(client, call)
            if outcome.result is not Result.ANSWERED:
                raise SystemExit(
                    f"{server.name} does not even answer as many callers as it has places: {outcome}"
                )
            answered += 1
        return answered

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.client()) for server in servers]
        began = loop.time()
        callers = [
            asyncio.gather(*(keep_busy(server, client, began + seconds) for _ in range(server.places)))
            for server, client in zip(servers, clients, strict=True)
        ]
        counts = [sum(answered) for answered in await asyncio.gather(*callers)]
        return [count / (loop.time() - began) for count in counts]


async def apply_load(
    servers: Sequence[Watched],
    *,
    capacity: Sequence[float],
    overload: float,
    seconds: float,
    chance: random.Random,
) -> None:
    """Calls each server `overload` times as often as it answers, at random moments, and waits for the end.

    How often that is follows the server: a machine that others use too is now faster, now slower than when
    its `capacity` was measured.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def press(server: Watched, measured: float) -> None:
        look, seen = began, 0
        rate = overload * measured
        async with server.client() as client, asyncio.TaskGroup() as calls:
            while (now := loop.time()) < began + seconds:
                calls.create_task(_call(server, client))
                if now - look > LOOK_SECONDS:
                    answered = sum(outcome.result is Result.ANSWERED for outcome in server.outcomes)
                    rate = overload * max((answered - seen) / (now - look), measured / 2)
                    look, seen = now, answered
                due = now + chance.expovariate(rate)
                await asyncio.sleep(due - loop.time())

    async def sample() -> None:
        while True:
            for server in servers:
                server.resident.append((loop.time() - began, server.process.memory_info().rss))
            await asyncio.sleep(1)

    sampling = asyncio.create_task(sample())
    try:
        await asyncio.gather(*(press(server, rate) for server, rate in zip(servers, capacity, strict=True)))
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)


async def _call(server: Watched, client: httpx.AsyncClient) -> None:
    call = server.draw()
    try:
        async with asyncio.timeout(call.leaves_after):
            outcome = await make_call(client, call)
    except TimeoutError:
        outcome = Outcome(kind=call.kind, result=Result.LEFT)
    server.outcomes.append(outcome)
