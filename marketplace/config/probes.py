"""Answers those who watch over the web process: a kubelet, a load balancer.

Around Django and not a page of it: a kubelet calls by the pod's address, which is no host name that Django
answers to, and a process that is alive must say so however busy its middleware are.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

log = logging.getLogger(__name__)

LIVE_PATH = "/live"
"""200 as long as the process can answer at all."""
READY_PATH = "/ready"
"""200 from the moment on at which the database has answered; 503 with the reason before."""


class Probes:
    """ASGI middleware."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._ready = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == LIVE_PATH:
            await _answer(send, 200, "live")
        elif scope["type"] == "http" and scope["path"] == READY_PATH:
            problem = await self._what_is_missing()
            await _answer(send, 503 if problem else 200, problem or "ready")
        else:
            await self.application(scope, receive, send)

    async def _what_is_missing(self) -> str:
        """Asked of the database until it answers once. Later every process would turn unready in the same
        moment, and callers would get a proxy's error in the place of ours."""
        if not self._ready:
            try:
                await sync_to_async(_ask_database, thread_sensitive=False)()
            except (DatabaseError, InterfaceError) as error:
                # Anybody may ask; where the database is and who we are there is for staff.
                log.warning("not ready: the database does not answer: %s", error)
                return "the database does not answer"
            self._ready = True
        return ""


def _ask_database() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()  # this thread asks no more


async def _answer(send: Send, status: int, text: str) -> None:
    body = f"{text}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
