"""Stops the work for a client that has left, or that nobody can wait for any longer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Any

from starlette.types import Receive


class End(Enum):
    """How the work for a request ended."""

    DONE = auto()
    HANG_UP = auto()
    """The client left first."""
    CUT_OFF = auto()
    """The server had to stop first."""
    LATE = auto()
    """The time of the request was over first."""


async def run_while_connected(
    work: Coroutine[Any, Any, None], *, receive: Receive, cut_off: asyncio.Event, seconds: float
) -> End:
    """Runs `work`, canceling it when the client hangs up, `cut_off` is set or the `seconds` are over.

    The request's body must have been read: what `receive` tells next is that the client is gone.
    """
    task = asyncio.ensure_future(work)
    watches = {
        asyncio.ensure_future(_wait_for_hang_up(receive)): End.HANG_UP,
        asyncio.ensure_future(cut_off.wait()): End.CUT_OFF,
        asyncio.ensure_future(asyncio.sleep(max(seconds, 0.0))): End.LATE,
    }
    try:
        done, _ = await asyncio.wait({task, *watches}, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            task.result()
            return End.DONE
        return next(end for watch, end in watches.items() if watch in done)
    finally:
        for pending in (task, *watches):
            pending.cancel()
        await asyncio.gather(task, *watches, return_exceptions=True)


async def _wait_for_hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
