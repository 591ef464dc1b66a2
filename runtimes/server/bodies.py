"""Reading a request body: bounded in size and time, and strict."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from runtimes.server.errors import ApiError, invalid_body
from runtimes.server.schemas import Body

MAX_BODY_BYTES = 4 * 2**20
"""Room for a prompt of a million tokens' text or 2048 inputs of two kilobytes."""
BODY_SECONDS = 30.0
"""A client that takes longer to send its body is let go."""

B = TypeVar("B", bound=Body)


async def read_body(request: Request, kind: type[B]) -> B:
    """The validated body. Raises ApiError: 400 for what is wrong in it, 408 when slow, 413 when too large."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            content = await _read_bytes(request)
    except TimeoutError as error:
        raise ApiError(
            f"The body did not arrive within {BODY_SECONDS:.0f} s.", status=408, code="timeout"
        ) from error
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise invalid_body(error) from error


async def _read_bytes(request: Request) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise _too_large()
    content = bytearray()
    try:
        async for part in request.stream():
            content += part
            if len(content) > MAX_BODY_BYTES:
                raise _too_large()
    except ClientDisconnect as error:
        raise ApiError(
            "The connection was closed before the body was complete.", code="incomplete"
        ) from error
    return bytes(content)


def _too_large() -> ApiError:
    return ApiError(
        f"The body is larger than {MAX_BODY_BYTES // 2**20} MiB.",
        status=413,
        code="request_too_large",
        # The rest is not read, so the connection cannot be used again.
        headers={"Connection": "close"},
    )
