"""How much time a request has: the caller's own limit or the server's, whichever is shorter."""

from __future__ import annotations

import math
from collections.abc import Iterable

from runtimes.server.errors import ApiError

TIME_LIMIT_HEADER = "X-Request-Timeout"
"""Seconds that the caller will wait for the whole answer, such as `2.5`."""


def time_limit(headers: Iterable[tuple[bytes, bytes]], *, longest: float) -> float:
    """Seconds from the arrival of the request, at most `longest`.

    Raises ApiError when the caller's limit is not a number of seconds above zero.
    """
    for name, value in headers:
        if name.lower() == TIME_LIMIT_HEADER.lower().encode():
            return min(_read_seconds(value.decode("latin-1")), longest)
    return longest


def _read_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ApiError(
            f"The header {TIME_LIMIT_HEADER} must be a number of seconds above zero, such as 30; "
            f"got {text[:60]!r}.",
            param=TIME_LIMIT_HEADER,
            code="invalid_value",
        )
    return seconds
