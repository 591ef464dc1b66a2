"""Answers that take a while: they hold a place in the queue, stop when the client leaves, may be streamed.

Everything happens while the response is sent, so that whatever ends it (the last token, an error, a client
that hangs up, a server that stops) gives back the place and the computation.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from time import perf_counter
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from runtimes.server.deadlines import time_limit
from runtimes.server.errors import ApiError, internal, took_too_long, unavailable, waited_too_long
from runtimes.server.hang_up import End, run_while_connected
from runtimes.server.lifecycle import Serving

logger = logging.getLogger(__name__)

APOLOGY_SECONDS = 1.0
"""To tell a client that its answer will not be completed."""

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies such as nginx would otherwise hold the events back.
    (b"x-accel-buffering", b"no"),
]


class HeldResponse(Response):
    """Admits a request of `sequences` sequences, and sends its answer as long as the client is there."""

    def __init__(self, *, serving: Serving, sequences: int) -> None:
        super().__init__()
        self._serving = serving
        self._sequences = sequences

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = time_limit(scope["headers"], longest=self._serving.environment.request_seconds)
        with self._serving.admission.admit(self._sequences) as ticket:
            end = await run_while_connected(
                self._send(scope, receive, send),
                receive=receive,
                cut_off=self._serving.cut_off,
                seconds=limit - (perf_counter() - scope["state"]["arrived"]),
            )
            match end:
                case End.HANG_UP:
                    self._serving.metrics.hang_ups.inc()
                    return
                case End.DONE:
                    return
                case End.CUT_OFF:
                    error = unavailable("This server had to stop before the answer was complete.")
                case End.LATE if ticket.begun:
                    error = took_too_long(limit)
                case End.LATE:
                    error = waited_too_long(limit, retry_after=self._serving.admission.retry_after())
            # A client that does not read is not waited for.
            with suppress(TimeoutError):
                async with asyncio.timeout(APOLOGY_SECONDS):
                    await self._apologize(send, error)

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    async def _apologize(self, send: Send, error: ApiError) -> None:
        """Tells the client that the answer will not be completed."""
        raise error


class Answer(HeldResponse):
    """Sends what `compute` returns as one JSON object, which it may have written already."""

    def __init__(self, *, compute: Callable[[], Awaitable[dict[str, Any] | bytes]], **held: Any) -> None:
        super().__init__(**held)
        self._compute = compute

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._compute()
        response = (
            Response(answer, media_type="application/json")
            if isinstance(answer, bytes)
            else JSONResponse(answer)
        )
        await response(scope, receive, send)


class EventStream(HeldResponse):
    """Sends the objects that `events` yields as server-sent events, then `[DONE]` where that is usual.

    Events that have a `type` are named by it.

    The first event decides the status: an error before it is a plain error answer, one after it is an event.
    """

    def __init__(
        self,
        *,
        events: Callable[[], AsyncGenerator[dict[str, Any], None]],
        ends_with_done: bool = True,
        **held: Any,
    ) -> None:
        super().__init__(**held)
        self._events = events
        self._ends_with_done = ends_with_done
        self._begun = False

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    if not self._begun:
                        self._begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
                    await _send_event(send, _encode(event), name=event.get("type"))
        except Exception as error:
            if not self._begun:
                raise
            if not isinstance(error, ApiError):
                logger.exception("request %s failed in mid-stream", scope["state"]["request_id"])
                error = internal(scope["state"]["request_id"])
            await self._apologize(send, error)
        else:
            if self._ends_with_done:
                await _send_event(send, b"[DONE]")
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _apologize(self, send: Send, error: ApiError) -> None:
        if not self._begun:
            raise error
        self._serving.metrics.errors.labels(code=error.code).inc()
        await _send_event(send, _encode(error.body()))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_event(send: Send, data: bytes, *, name: str | None = None) -> None:
    head = b"" if name is None else f"event: {name}\n".encode()
    await send({"type": "http.response.body", "body": head + b"data: " + data + b"\n\n", "more_body": True})


def _encode(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
