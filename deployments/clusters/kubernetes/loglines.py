"""The lines of a container's log, numbered. Pure: it takes the bytes as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from deployments.clusters.port import LogLine

LONGEST_LINE = 64 * 1024
"""Of a longer line the rest is left out: a container that prints no line ends must not fill our memory."""


def numbered(chunks: Iterable[bytes], *, after: int, limit: int, tail: bool) -> list[LogLine]:
    """The lines after line `after`: the first `limit`, or with `tail` the last; the oldest first."""
    kept: deque[LogLine] = deque(maxlen=limit)
    if limit <= 0:
        return []
    for number, line in enumerate(_lines(chunks), start=1):
        if number <= after:
            continue
        kept.append(LogLine(number=number, text=line.decode("utf-8", "replace")))
        if not tail and len(kept) == limit:
            break
    return list(kept)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line[:LONGEST_LINE].removesuffix(b"\r")
        rest = rest[:LONGEST_LINE]
    if rest:
        yield rest
