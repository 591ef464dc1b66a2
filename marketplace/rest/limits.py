"""Refuses bodies that are too large, before anything keeps them.

Django's ASGI handler takes in the whole body before its first middleware runs, so the limit that counts is
`BodyLimit`, around the application: it looks at Content-Length, and counts the bytes of a body that does
not tell its length. `BodyLimitMiddleware` says the same to servers that speak WSGI, and to tests.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from marketplace.rest.problems import MEDIA_TYPE, Problem, respond
from marketplace.rest.request_ids import HEADER as REQUEST_ID_HEADER
from marketplace.rest.request_ids import usable_or_new

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

DRAINED_AT_MOST = 8_000_000
"""Bytes read and dropped after a refusal: closing at once would reset the connection before a client reads
why.
"""


def limit_of(path: str) -> int:
    """Largest body in bytes that a path takes."""
    if any(path.startswith(prefix) for prefix in settings.UPLOAD_PATHS):
        return int(settings.MAX_UPLOAD_BYTES)
    return int(settings.MAX_BODY_BYTES)


def too_large(limit: int) -> Problem:
    return Problem(
        status=413,
        type="body-too-large",
        title="Body too large",
        detail=f"The body is larger than the {limit:,} bytes that this address takes.",
        limit=limit,
    )


class BodyLimitMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        limit = limit_of(request.path)
        length = _number(str(request.META.get("CONTENT_LENGTH") or "0"))
        if length is not None and length > limit:
            return respond(too_large(limit), request)
        return self.get_response(request)


class BodyLimit:
    """ASGI middleware. Memory stays at one chunk of the server, however much is sent."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        limit = limit_of(scope["path"])
        declared = _number(_header(scope["headers"], b"content-length") or "0")
        if declared is not None and declared > limit:
            await _refuse(scope, receive, send, limit=limit)
            return
        received = 0
        began = False

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            # To the application it is as if the client had gone, at which it closes what it had kept.
            return message if received <= limit else {"type": "http.disconnect"}

        async def noting_send(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.application(scope, counting_receive, noting_send)
        except Exception:
            if received <= limit or began:
                raise
        if received > limit and not began:
            await _refuse(scope, receive, send, limit=limit)


async def _refuse(scope: Message, receive: Receive, send: Send, *, limit: int) -> None:
    request_id = usable_or_new(_header(scope["headers"], REQUEST_ID_HEADER.lower().encode()) or "")
    body = json.dumps(too_large(limit).document(request_id=request_id)).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (REQUEST_ID_HEADER.lower().encode(), request_id.encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    dropped = 0
    while dropped < DRAINED_AT_MOST:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            break
        dropped += len(message.get("body", b""))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), None)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None
