"""The answer of a replica on its way to the caller: bytes as they come, read along for what they say.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

KEPT_BYTES = 4_194_304
"""A JSON answer is kept up to this size to read its usage; a larger one passes unread."""

EVENT_STREAM = "text/event-stream"
_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")
# RFC 9110 §7.6.1, and what every server writes for itself. Cookies belong to one origin: a runtime has none.
_NOT_PASSED = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te")
    + ("trailer", "transfer-encoding", "upgrade", "date", "server", "set-cookie", "x-request-id")
)


@dataclass(frozen=True)
class Tokens:
    """What an answer says it used."""

    input: int = 0
    output: int = 0


def headers_for_caller(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Response headers that the caller gets: all but those about our connection to the replica."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {
        token.strip().lower()
        for name, value in lowered
        if name == b"connection"
        for token in value.decode("latin-1").split(",")
    }
    return [(name, value) for name, value in lowered if name.decode("latin-1") not in _NOT_PASSED | named]


class EventRelay:
    """Server-sent events. Lets whole events through only, so that a failure can be told as an event too."""

    def __init__(self) -> None:
        self._rest = b""
        self.tokens = Tokens()

    def feed(self, chunk: bytes) -> bytes:
        """The part that ends with an event; what has begun waits for its end."""
        data = self._rest + chunk
        end = 0
        # An end may straddle two chunks: look from just before the new bytes.
        for match in _END_OF_EVENT.finditer(data, max(0, len(self._rest) - 3)):
            self._read(data[end : match.end()])
            end = match.end()
        self._rest = data[end:]
        return data[:end]

    def finish(self) -> bytes:
        """What is left when the replica has ended the stream properly."""
        rest, self._rest = self._rest, b""
        return rest

    def _read(self, event: bytes) -> None:
        if b'"usage"' in event:
            for line in event.splitlines():
                self.tokens = read_tokens(line.removeprefix(b"data:")) or self.tokens


class BodyRelay:
    """Any other answer, passed on as it comes; a copy is kept if it may tell its usage."""

    def __init__(self, *, content_type: str) -> None:
        self._copy: bytearray | None = bytearray() if content_type.startswith("application/json") else None

    def feed(self, chunk: bytes) -> bytes:
        if self._copy is not None:
            self._copy += chunk
            if len(self._copy) > KEPT_BYTES:
                self._copy = None
        return chunk

    def finish(self) -> bytes:
        return b""

    @property
    def tokens(self) -> Tokens:
        return (read_tokens(bytes(self._copy)) if self._copy else None) or Tokens()


def read_tokens(text: bytes) -> Tokens | None:
    """The usage in a JSON answer of any OpenAI endpoint; None when it has none."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, dict) and isinstance(value.get("response"), dict):
        value = value["response"]  # an event of /v1/responses
    usage = value.get("usage") if isinstance(value, dict) else None
    if not isinstance(usage, dict):
        return None
    return Tokens(
        input=_count(usage, "prompt_tokens", "input_tokens"),
        output=_count(usage, "completion_tokens", "output_tokens"),
    )


def is_openai_error(body: bytes) -> bool:
    """Whether a runtime's error already has the shape that callers expect."""
    try:
        value = json.loads(body)
    except ValueError:
        return False
    return isinstance(value, dict) and isinstance(value.get("error"), dict) and "message" in value["error"]


def _count(usage: dict[str, Any], *names: str) -> int:
    for name in names:
        count = usage.get(name)
        if isinstance(count, int):
            return max(0, count)
    return 0
