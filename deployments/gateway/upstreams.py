"""One try of a call on one replica: an answer that has begun, or a failure that says whether to try another.

Beside `workspaces` the only module that knows the HTTP client; none of its errors passes this border. It
is aiohttp: its pool hands out a connection in constant time and its parser is compiled. With httpx's pool,
which looks at every connection for every call, 16 callers got a quarter of them through
(`make bench-gateway`).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from deployments.gateway.balancing import Upstream
from deployments.gateway.errors import upstream_failed
from deployments.gateway.limits import Limits
from deployments.gateway.relay import headers_for_caller, is_openai_error

ERROR_BYTES = 1_048_576
"""Errors of a runtime are read up to this size."""
KEEPALIVE_SECONDS = 4.0
"""Shorter than the 5 s after which uvicorn closes an idle connection, so that we close first."""
_TRY_ANOTHER = frozenset((429, 502, 503, 504))
_FINAL = (b"x-should-retry", b"false")
"""With this header, which OpenAI's SDKs know, a runtime says that the same call would end the same way
elsewhere: the time of the call was over."""
_MISDIRECTED = 421
"""What a runtime answers to a call for another deployment: its address has changed hands."""
_NOT_ADDED = ("user-agent", "accept", "content-type")
"""Headers that the client would add by itself: a runtime gets the caller's or none."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer whose first bytes are there, or a whole one that is an error (`chunks` is then None)."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content_type: str
    first: bytes
    chunks: AsyncIterator[bytes] | None = None


class ReplicaFailed(Exception):
    """This replica gave no answer to pass on, and nothing was sent to the caller yet."""

    def __init__(self, message: str, *, reason: str, was_sent: bool, answer: Answer | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        """unreachable, misdirected, dropped or refused."""
        self.was_sent = was_sent
        """The replica may have begun to work on it, and it may be what broke the replica."""
        self.answer = answer
        """What it said, if it refused."""


class AnswerBroke(Exception):
    """The replica went away, or fell silent, after its answer had begun."""


def open_session(limits: Limits, *, not_added: Iterable[str]) -> aiohttp.ClientSession:
    """Connections to pods, to be opened inside the event loop that uses them. Bytes pass as they come.

    `not_added`: headers that the client would add by itself.
    """
    return aiohttp.ClientSession(
        # No limit here: the gateway limits the calls themselves.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect, sock_read=limits.answer),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=not_added,
        trust_env=False,
    )


class Upstreams:
    """Connections to replicas, kept open between calls."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Begins, inside the event loop that `ask` will use."""
        self._session = open_session(self._limits, not_added=_NOT_ADDED)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def ask(
        self, upstream: Upstream, *, path: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Answer]:
        """The replica's answer, from its first bytes on; leaving the context drops what is left of it.

        Raises ReplicaFailed, or GatewayError 504 when the replica is silent for too long. Reading on raises
        AnswerBroke.
        """
        if self._session is None:
            raise RuntimeError("open() comes first")
        response: aiohttp.ClientResponse | None = None
        try:
            try:
                response = await self._session.post(
                    URL(f"http://{upstream.address}{path}", encoded=True),
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                )
                answer = await _begin(response)
            except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
                raise ReplicaFailed(str(error), reason="unreachable", was_sent=False) from error
            except aiohttp.SocketTimeoutError as error:
                raise upstream_failed("The model did not answer in time.", status=504) from error
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise ReplicaFailed(str(error), reason="dropped", was_sent=True) from error
            if answer.status == _MISDIRECTED:
                # Nothing of that answer is for our caller: it comes from somebody else's runtime.
                raise ReplicaFailed("the address is another's now", reason="misdirected", was_sent=False)
            if answer.status in _TRY_ANOTHER and _FINAL not in answer.headers:
                raise ReplicaFailed(
                    f"status {answer.status}", reason="refused", was_sent=False, answer=answer
                )
            yield answer
        finally:
            if response is not None:
                # A whole answer has given its connection back; any other ends with its connection.
                response.close()


async def _begin(response: aiohttp.ClientResponse) -> Answer:
    headers = headers_for_caller(response.raw_headers)
    if response.status >= 300:
        return await _error(response, headers)
    return Answer(
        status=response.status,
        headers=headers,
        content_type=response.headers.get("content-type", ""),
        first=await response.content.readany(),
        chunks=_rest(response),
    )


async def _rest(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        while chunk := await response.content.readany():
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise AnswerBroke(str(error) or type(error).__name__) from error


async def _error(response: aiohttp.ClientResponse, headers: list[tuple[bytes, bytes]]) -> Answer:
    """A runtime's error as callers expect it: as it is if it speaks the protocol, else put into its words."""
    status = response.status
    body = bytearray()
    while len(body) <= ERROR_BYTES and (chunk := await response.content.readany()):
        body += chunk
    kept = [(name, value) for name, value in headers if name in (b"retry-after", _FINAL[0])]
    if not is_openai_error(bytes(body)):
        ours = upstream_failed(f"The model's runtime answered with status {status}.")
        # A redirect would send the caller to an address inside the cluster.
        status = status if status >= 400 else ours.status
        body = bytearray(json.dumps(ours.to_json()).encode())
    kept += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return Answer(status=status, headers=kept, content_type="application/json", first=bytes(body))
