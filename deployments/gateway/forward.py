"""One call from its first byte to its last: who, what, which replica, and the answer as it comes.

1. The key says who calls, the body which deployment; anything wrong with them is answered here.
2. The least busy ready replica is asked. Until its first byte has come nothing has been sent to the caller,
   so a replica that fails is replaced by another. So is an address that a pod of another deployment has got
   since it was recorded: a call says whom it is meant for, and that pod's runtime refuses it.
3. Bytes pass as they come. The caller's pace is the replica's pace: nothing piles up between them.
4. A caller that hangs up ends the replica's work at once, whatever it was doing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.utils import timezone
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from deployments.gateway.balancing import Balancer
from deployments.gateway.calls import Call, headers_for_runtime, read_body, read_call, request_id_of
from deployments.gateway.counts import Counts
from deployments.gateway.directory import Directory, Served
from deployments.gateway.errors import GatewayError, unavailable, upstream_failed
from deployments.gateway.keys import Caller, Keys
from deployments.gateway.limits import Limits
from deployments.gateway.metrics import Metrics
from deployments.gateway.models import Meter
from deployments.gateway.relay import EVENT_STREAM, BodyRelay, EventRelay, Tokens
from deployments.gateway.stopping import Stopping
from deployments.gateway.upstreams import Answer, AnswerBroke, ReplicaFailed, Upstreams
from runtimes.contract import RESOURCE_HEADER

logger = logging.getLogger(__name__)

HUNG_UP = 499
"""Status of a call whose caller did not wait, in metrics (nginx's number for it)."""


class CallerStalled(Exception):
    """The caller does not read what it has been sent."""


class Forwarder:
    """The ASGI endpoint of every POST below /v1."""

    def __init__(
        self,
        *,
        keys: Keys,
        directory: Directory,
        upstreams: Upstreams,
        counts: Counts,
        metrics: Metrics,
        limits: Limits,
        stopping: Stopping,
    ) -> None:
        self._keys = keys
        self._directory = directory
        self._upstreams = upstreams
        self._counts = counts
        self._metrics = metrics
        self._limits = limits
        self._stopping = stopping
        self._balancer = Balancer(suspicion=limits.suspicion)
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        out = _Outgoing(
            send,
            request_id=request_id_of(request.headers),
            stall=self._limits.stall,
            closes=self._stopping.has_begun,
        )
        began = time.perf_counter()
        self._in_progress += 1
        self._metrics.in_progress.inc()
        try:
            try:
                await self._answer(request, out, began=began)
            except (DatabaseError, InterfaceError) as error:
                logger.exception("The database is needed and does not answer")
                raise unavailable(
                    "The gateway cannot look up keys and deployments at the moment.",
                    code="gateway_unavailable",
                    retry_after=2,
                ) from error
        except GatewayError as error:
            await out.refuse(error, scope=scope, receive=receive)
        except (ClientDisconnect, CallerStalled):
            out.status = HUNG_UP
        finally:
            self._in_progress -= 1
            self._metrics.in_progress.dec()
            self._metrics.calls.labels(str(out.status)).inc()
            self._metrics.duration.observe(time.perf_counter() - began)

    async def _answer(self, request: Request, out: _Outgoing, *, began: float) -> None:
        if self._in_progress > self._limits.calls:
            raise unavailable(
                "The gateway has as many calls in progress as it can take.", code="overloaded", retry_after=1
            )
        caller = await self._keys.caller(request.headers)
        try:
            async with asyncio.timeout(self._limits.stall):
                body = await read_body(request, limit=self._limits.body_bytes)
        except TimeoutError as error:
            raise GatewayError(
                408,
                f"The body did not arrive within {self._limits.stall:g} seconds.",
                code="request_timeout",
                close=True,
            ) from error
        call = read_call(body, content_type=request.headers.get("content-type", ""))
        served = await self._directory.find(caller.organization, call.model)
        headers = headers_for_runtime(request.headers, request_id=out.request_id)
        headers["content-type"] = call.content_type
        headers[RESOURCE_HEADER] = served.public_id
        counted = _Counted(self._counts, caller=caller, served=served)
        try:
            work = self._exchange(
                request.url.path, call, served, headers, out=out, counted=counted, began=began
            )
            await _unless_hung_up(work, request.receive)
        except GatewayError:
            counted.error = True
            raise
        finally:
            counted.close()

    async def _exchange(
        self,
        path: str,
        call: Call,
        served: Served,
        headers: dict[str, str],
        *,
        out: _Outgoing,
        counted: _Counted,
        began: float,
    ) -> None:
        tried: set[str] = set()
        drops = 0
        failure: ReplicaFailed | None = None
        for _ in range(self._limits.attempts):
            if failure is None and (refusal := served.refusal()):
                raise refusal
            upstream = self._balancer.choose(
                served.upstreams, besides=tried, prefer=served.share_of(out.request_id)
            )
            if upstream is None:
                break
            if failure is not None:
                self._metrics.retries.labels(failure.reason).inc()
            tried.add(upstream.uid)
            with self._balancer.busy(upstream):
                try:
                    async with self._upstreams.ask(
                        upstream, path=path, headers=headers, body=call.body_for(served.name)
                    ) as answer:
                        self._metrics.first_byte.observe(time.perf_counter() - began)
                        out.revision = upstream.revision
                        await self._relay(answer, out=out, counted=counted)
                        return
                except ReplicaFailed as error:
                    failure = error
            logger.info("Replica %s of %s: %s (%s)", upstream.uid, served.public_id, failure.reason, failure)
            if failure.was_sent:
                drops += 1
                if drops > 1:
                    # A call that ends two replicas is not given a third.
                    break
                if len(served.upstreams) == 1:
                    # More often an idle connection that closed under us than a dead replica.
                    tried.discard(upstream.uid)
            if failure.answer is None or failure.answer.status != 429:
                self._balancer.suspect(upstream)
                self._directory.forget(served.organization)
                served = await self._directory.find(served.organization, served.public_id)
        if failure is not None and failure.answer is not None:
            await self._relay(failure.answer, out=out, counted=counted)
            return
        if failure is not None and failure.was_sent:
            raise upstream_failed("The replica that worked on this call went away; it was not answered.")
        raise unavailable(
            f"No replica of the deployment '{served.name}' could be reached.",
            code="model_not_ready",
            retry_after=2,
        )

    async def _relay(self, answer: Answer, *, out: _Outgoing, counted: _Counted) -> None:
        counted.error = answer.status >= 400
        streaming = answer.content_type.startswith(EVENT_STREAM)
        relay = EventRelay() if streaming else BodyRelay(content_type=answer.content_type)
        await out.begin(answer, streaming=streaming)
        try:
            await out.write(relay.feed(answer.first))
            if answer.chunks is not None:
                async for chunk in answer.chunks:
                    await out.write(relay.feed(chunk))
            await out.end(relay.finish())
        except AnswerBroke as error:
            self._metrics.broken_streams.inc()
            counted.error = True
            logger.warning("An answer of %s broke off: %s", counted.served.public_id, error)
            if streaming:
                told = upstream_failed("The model stopped in the middle of its answer; send the call again.")
                await out.end(told.to_event())
            # Any other answer is left unended: the connection closes, and the caller sees that it was cut.
        finally:
            counted.tokens = relay.tokens


class _Outgoing:
    """What is sent to the caller."""

    def __init__(self, send: Send, *, request_id: str, stall: float, closes: bool) -> None:
        self._send = send
        self._stall = stall
        self.request_id = request_id
        self.revision: int | None = None
        """Of the replica that answers."""
        self.closes = closes
        """The caller is to come back by another connection, which leads to another gateway."""
        self.status = 500

    async def begin(self, answer: Answer, *, streaming: bool) -> None:
        headers = [*answer.headers, (b"x-request-id", self.request_id.encode())]
        if self.revision is not None:
            headers.append((b"x-deployment-revision", str(self.revision).encode()))
        if self.closes:
            headers.append((b"connection", b"close"))
        if streaming:
            # A stream may end with an event of ours; and no proxy on the way may gather it.
            headers = [(name, value) for name, value in headers if name != b"content-length"]
            headers.append((b"x-accel-buffering", b"no"))
        self.status = answer.status
        await self._put({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def write(self, data: bytes) -> None:
        if data:
            await self._put({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes) -> None:
        await self._put({"type": "http.response.body", "body": data, "more_body": False})

    async def refuse(self, error: GatewayError, *, scope: Scope, receive: Receive) -> None:
        self.status = error.status
        error.close = error.close or self.closes
        await error.to_response(request_id=self.request_id)(scope, receive, self._send)

    async def _put(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._stall):
                await self._send(message)
        except TimeoutError as error:
            raise CallerStalled from error


class _Counted:
    """What one call adds to the counts, whichever way it ends."""

    def __init__(self, counts: Counts, *, caller: Caller, served: Served) -> None:
        self._counts = counts
        self._caller = caller
        self.served = served
        self.error = False
        self.tokens = Tokens()

    def close(self) -> None:
        self._counts.add(
            organization=self._caller.organization,
            resource=self.served.public_id,
            api_key=self._caller.api_key,
            at=timezone.now(),
            amounts={
                Meter.REQUESTS: 1,
                Meter.ERRORS: int(self.error),
                Meter.INPUT_TOKENS: self.tokens.input,
                Meter.OUTPUT_TOKENS: self.tokens.output,
            },
        )


async def _unless_hung_up(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Does the work. Raises ClientDisconnect, the work cancelled and over, when the caller hangs up first."""
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(_hung_up(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
