"""One try of a call on one replica: an answer that has begun, or a failure that says whether to try another.

The only module of the gateway that knows the HTTP client; none of its errors passes this border.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from deployments.gateway.balancing import Upstream
from deployments.gateway.errors import upstream_failed
from deployments.gateway.limits import Limits
from deployments.gateway.relay import headers_for_caller, is_openai_error

ERROR_BYTES = 1_048_576
"""Errors of a runtime are read up to this size."""
KEEPALIVE_SECONDS = 4.0
"""Shorter than the 5 s after which uvicorn closes an idle connection, so that we close first."""
_TRY_ANOTHER = frozenset((429, 502, 503, 504))


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
        """unreachable, dropped or refused."""
        self.was_sent = was_sent
        """The replica may have begun to work on it, and it may be what broke the replica."""
        self.answer = answer
        """What it said, if it refused."""


class AnswerBroke(Exception):
    """The replica went away after its answer had begun."""


class Upstreams:
    """Connections to replicas, kept open between calls."""

    def __init__(self, limits: Limits) -> None:
        # The transport alone: a client would add redirects, cookies, proxies and their cost to every call.
        self._transport = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(
                max_connections=None, max_keepalive_connections=256, keepalive_expiry=KEEPALIVE_SECONDS
            )
        )
        self._timeouts = {
            "connect": limits.connect,
            "read": limits.answer,
            "write": limits.stall,
            "pool": limits.connect,
        }

    async def close(self) -> None:
        await self._transport.aclose()

    @asynccontextmanager
    async def ask(
        self, upstream: Upstream, *, path: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Answer]:
        """The replica's answer, from its first bytes on; leaving the context drops what is left of it.

        Raises ReplicaFailed, or GatewayError 504 when the replica is silent for too long. Reading on raises
        AnswerBroke.
        """
        request = httpx.Request(
            "POST",
            f"http://{upstream.address}{path}",
            headers=dict(headers),
            content=body,
            extensions={"timeout": self._timeouts},
        )
        response: httpx.Response | None = None
        try:
            try:
                response = await self._transport.handle_async_request(request)
                answer = await _begin(response)
            except httpx.ReadTimeout as error:
                raise upstream_failed("The model did not answer in time.", status=504) from error
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                raise ReplicaFailed(str(error), reason="unreachable", was_sent=False) from error
            except httpx.TransportError as error:
                raise ReplicaFailed(str(error), reason="dropped", was_sent=True) from error
            if answer.status in _TRY_ANOTHER:
                raise ReplicaFailed(
                    f"status {answer.status}", reason="refused", was_sent=False, answer=answer
                )
            yield answer
        finally:
            if response is not None:
                await response.aclose()


async def _begin(response: httpx.Response) -> Answer:
    chunks = aiter(response.stream)  # type: ignore[arg-type]  # always an asynchronous one here
    content_type = response.headers.get("content-type", "")
    headers = headers_for_caller(response.headers.raw)
    if response.status_code >= 300:
        return await _error(response.status_code, headers, chunks)
    return Answer(
        status=response.status_code,
        headers=headers,
        content_type=content_type,
        first=await anext(chunks, b""),
        chunks=_translated(chunks),
    )


async def _translated(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield chunk
    except httpx.TransportError as error:
        raise AnswerBroke(str(error) or type(error).__name__) from error


async def _error(status: int, headers: list[tuple[bytes, bytes]], chunks: AsyncIterator[bytes]) -> Answer:
    """A runtime's error as callers expect it: as it is if it speaks the protocol, else put into its words."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > ERROR_BYTES:
            break
    kept = [(name, value) for name, value in headers if name == b"retry-after"]
    if not is_openai_error(bytes(body)):
        ours = upstream_failed(f"The model's runtime answered with status {status}.")
        # A redirect would send the caller to an address inside the cluster.
        status = status if status >= 400 else ours.status
        body = bytearray(json.dumps(ours.to_json()).encode())
    kept += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return Answer(status=status, headers=kept, content_type="application/json", first=bytes(body))
