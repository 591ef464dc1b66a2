"""Stops the work for a client that has left."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive


async def run_while_connected(work: Coroutine[Any, Any, None], *, receive: Receive) -> bool:
    """Runs `work`, cancelling it when the client hangs up; whether it came to its end.

    The request's body must have been read: what `receive` tells next is that the client is gone.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_wait_for_hang_up(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
            return False
        task.result()
        return True
    finally:
        for pending in (task, watch):
            pending.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _wait_for_hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
