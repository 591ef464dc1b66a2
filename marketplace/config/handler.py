"""Runs Django below an ASGI server: each request, middleware and database included, in one thread of a pool
that stays.

All of the web process is written without `async`. Django's own ASGI handler would give each request a thread
of its own, and with it a new connection to the database, and would change threads for every middleware that
could be asynchronous. What it does well is kept: the body is read by the event loop before a thread is taken,
so that slow senders hold up nobody.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import IO, Any, TypeVar

from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.signals import request_started
from django.http.response import HttpResponseBase, StreamingHttpResponse
from django.urls import set_script_prefix

T = TypeVar("T")

THREADS = 8
"""Requests at once, and connections to the database. Python computes one at a time; the others wait for the
database or for the log of a cluster."""


class ThreadsHandler(ASGIHandler):
    """The ASGI application that Django is."""

    def __init__(self, *, threads: int = THREADS) -> None:
        self.load_middleware(is_async=False)
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="request")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the web process answers HTTP, not {scope['type']}")
        await self.handle(scope, receive, send)

    def close(self) -> None:
        """Waits for the requests at hand and ends the threads, whose connections end with them."""
        self._threads.shutdown()

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Reads the body, lets a thread answer, and sends what it answered."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with closing(body):
            response = await self._in_thread(lambda: self._respond(scope, body))
        if isinstance(response, StreamingHttpResponse):
            await self._send_stream(response, send)
        else:
            await self.send_response(response, send)

    def _respond(self, scope: Mapping[str, Any], body: IO[bytes]) -> HttpResponseBase:
        """All of a request, from the first signal to the last: they look after the database's connection."""
        set_script_prefix(get_script_prefix(scope))
        request_started.send(sender=type(self), scope=scope)
        request, refusal = self.create_request(scope, body)
        response: HttpResponseBase | None = refusal if request is None else self.get_response(request)
        assert response is not None  # either is there
        if not response.streaming:
            response.close()  # which ends the request; the content stays
        return response

    async def _send_stream(self, response: StreamingHttpResponse, send: Any) -> None:
        """Part by part, each made in a thread."""
        parts: Iterator[bytes] = iter(response)
        headers = [(name.encode("ascii"), value.encode("latin1")) for name, value in response.headers.items()]
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        try:
            while (part := await self._in_thread(lambda: next(parts, None))) is not None:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            await self._in_thread(response.close)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        run = contextvars.copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._threads, run, work)
