"""The gateway as an ASGI application: its routes, and what starts and ends with the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from django.db import DatabaseError, InterfaceError, connection
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from deployments.gateway.calls import request_id_of
from deployments.gateway.counts import Counts
from deployments.gateway.database import Database
from deployments.gateway.directory import Directory
from deployments.gateway.errors import GatewayError, unavailable
from deployments.gateway.forward import Forwarder
from deployments.gateway.keys import Keys
from deployments.gateway.limits import Limits
from deployments.gateway.metrics import Metrics
from deployments.gateway.rooms import Rooms
from deployments.gateway.stopping import Stopping
from deployments.gateway.upstreams import Upstreams
from deployments.gateway.workspaces import WorkspaceProxy
from runtimes.contract import LIVE_PATH, METRICS_PATH, OPENAI_PATH, READY_PATH


class Gateway:
    """The parts of one gateway process, and the pages it answers by itself."""

    def __init__(self, limits: Limits) -> None:
        self._database = Database()
        self._keys = Keys(self._database, age=limits.key_age, stale=limits.stale)
        self._directory = Directory(self._database, age=limits.directory_age, stale=limits.stale)
        self._upstreams = Upstreams(limits)
        self.workspaces = WorkspaceProxy(
            rooms=Rooms(self._database, age=limits.directory_age, stale=limits.stale), limits=limits
        )
        self._counts = Counts(self._database, every=limits.flush)
        self._metrics = Metrics()
        self._ready = False
        self._stopping = Stopping(delay=limits.stop_delay)
        self.forwarder = Forwarder(
            keys=self._keys,
            directory=self._directory,
            upstreams=self._upstreams,
            counts=self._counts,
            metrics=self._metrics,
            limits=limits,
            stopping=self._stopping,
        )

    @asynccontextmanager
    async def life(self, app: Starlette) -> AsyncIterator[None]:
        """Counts are written until the end, once more after the last call has been answered."""
        self._stopping.install()
        await self._upstreams.open()
        await self.workspaces.open()
        writer = asyncio.create_task(self._counts.keep_writing())
        try:
            yield
        finally:
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
            await self._counts.flush()
            await self._upstreams.close()
            await self.workspaces.close()
            await asyncio.to_thread(self._database.close)

    async def live(self, request: Request) -> Response:
        return PlainTextResponse("live\n")

    async def ready(self, request: Request) -> Response:
        """Ready once the database has answered. It stays so while the database is away for a while: what
        is remembered still serves, and every gateway turning unready at once would only add to the harm.
        Not ready any more once the process was told to stop."""
        if self._stopping.has_begun:
            return PlainTextResponse("stopping\n", status_code=503, headers={"connection": "close"})
        if not self._ready:
            try:
                await self._database.run(_ask_database)
            except (DatabaseError, InterfaceError) as error:
                return PlainTextResponse(f"the database does not answer: {error}\n", status_code=503)
            self._ready = True
        return PlainTextResponse("ready\n")

    async def metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def models(self, request: Request) -> Response:
        """Every deployment of the caller's organization; `state` says which answer now."""
        caller = await self._keys.caller(request.headers)
        served = await self._directory.all_of(caller.organization)
        return JSONResponse(
            {"object": "list", "data": [deployment.to_json() for deployment in served]},
            headers={"x-request-id": request_id_of(request.headers)},
        )

    async def model(self, request: Request) -> Response:
        caller = await self._keys.caller(request.headers)
        served = await self._directory.find(caller.organization, request.path_params["model"])
        return JSONResponse(served.to_json(), headers={"x-request-id": request_id_of(request.headers)})


def create_application(limits: Limits) -> Starlette:
    """A gateway with these limits."""
    gateway = Gateway(limits)
    return Starlette(
        routes=[
            Route(LIVE_PATH, gateway.live),
            Route(READY_PATH, gateway.ready),
            Route(METRICS_PATH, gateway.metrics),
            Route(f"{OPENAI_PATH}/models", gateway.models),
            Route(f"{OPENAI_PATH}/models/{{model}}", gateway.model),
            Route(f"{OPENAI_PATH}/{{path:path}}", _Posts(gateway.forwarder)),
            Route("/workspaces/{workspace}/{path:path}", gateway.workspaces),
            WebSocketRoute("/workspaces/{workspace}/{path:path}", gateway.workspaces),
        ],
        exception_handlers={
            GatewayError: _refused,
            HTTPException: _no_such_route,
            DatabaseError: _database_away,
            InterfaceError: _database_away,
        },
        lifespan=gateway.life,
    )


class _Posts:
    """Lets POST requests with an ordinary path through to the forwarder."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = scope["path_params"]["path"].split("/")
        ordinary = all(part and part.replace("-", "").replace("_", "").isalnum() for part in parts)
        if scope["method"] != "POST" or not ordinary or not scope["path"].isascii():
            raise HTTPException(404)
        await self._forwarder(scope, receive, send)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return error.to_response(request_id=request_id_of(request.headers))


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return GatewayError(
        error.status_code,
        f"There is no {request.method} {request.url.path} here. The base URL ends with {OPENAI_PATH}; "
        "calls are POST requests such as /v1/chat/completions.",
        code="unknown_url",
    ).to_response(request_id=request_id_of(request.headers))


async def _database_away(request: Request, error: Exception) -> Response:
    return unavailable(
        "The gateway cannot look up keys and deployments at the moment.",
        code="gateway_unavailable",
        retry_after=2,
    ).to_response(request_id=request_id_of(request.headers))


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
