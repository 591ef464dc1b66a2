"""A runtime that answers at once, so that a benchmark of the way to it measures the way only."""

from __future__ import annotations

import json
from typing import Any

TOKENS = 64
"""Events in a streamed answer."""
ANSWER = json.dumps(
    {"id": "1", "object": "chat.completion", "choices": [{"message": {"content": "Hello " * 50}}]}
    | {"usage": {"prompt_tokens": 50, "completion_tokens": 50}}
).encode()
EVENT = b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"delta":{"content":" word"}}]}\n\n'


async def application(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that answers at once: a JSON answer, or TOKENS events if the body asks for it."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    streaming = b'"stream": true' in body
    kind = b"text/event-stream" if streaming else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for _ in range(TOKENS if streaming else 0):
        await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    await send({"type": "http.response.body", "body": b"" if streaming else ANSWER})
