"""The ASGI application: which routes a task has, and what every request goes through."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from time import perf_counter
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtimes.contract import OPENAI_PATH, RESOURCE_HEADER, Task
from runtimes.server.audio_routes import speech_recognition_routes
from runtimes.server.embedding_routes import embedding_routes
from runtimes.server.errors import ApiError, internal, misdirected
from runtimes.server.image_routes import image_routes
from runtimes.server.lifecycle import Serving
from runtimes.server.probes import probe_routes
from runtimes.server.text_routes import text_routes

logger = logging.getLogger(__name__)

_RESOURCE = RESOURCE_HEADER.lower().encode()

ROUTES: Mapping[Task, Callable[[Serving], list[BaseRoute]]] = {
    Task.TEXT_GENERATION: text_routes,
    Task.FEATURE_EXTRACTION: embedding_routes,
    Task.AUTOMATIC_SPEECH_RECOGNITION: speech_recognition_routes,
    Task.TEXT_TO_IMAGE: image_routes,
}
"""What each kind of model answers; a task that is missing cannot be served by this image."""


def make_application(serving: Serving) -> ASGIApp:
    """The application of one server."""
    application = Starlette(
        routes=[*probe_routes(serving), *ROUTES[serving.environment.task](serving)],
        exception_handlers={
            ApiError: _answer_api_error,
            HTTPException: _unknown_route(serving),
            Exception: _answer_internal,
        },
    )
    return Observed(application, serving=serving)


class Observed:
    """Names, counts, times and logs each request."""

    def __init__(self, application: ASGIApp, *, serving: Serving) -> None:
        self._application = application
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = _request_id(scope)
        state["user"] = None
        state["error_code"] = None
        state["arrived"] = started = perf_counter()
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = (b"x-request-id", state["request_id"].encode())
                message = {**message, "headers": [*message.get("headers", []), named]}
            await send(message)

        is_work = scope["path"].startswith(OPENAI_PATH)
        try:
            if is_work and self._is_for_another(scope):
                state["error_code"] = "misdirected"
                await misdirected().response()(scope, receive, send_named)
            elif is_work:
                with self._serving.open_request():
                    await self._application(scope, receive, send_named)
            else:
                await self._application(scope, receive, send_named)
        except Exception:
            # Answered already; Starlette passes it on so that it is logged.
            logger.exception("request %s failed", state["request_id"])
        finally:
            if is_work:
                self._record(scope, status=status, seconds=perf_counter() - started)

    def _is_for_another(self, scope: Scope) -> bool:
        """Whether the request names a deployment, and not this one."""
        own = self._serving.environment.resource.encode()
        named = next((value for name, value in scope["headers"] if name == _RESOURCE), own)
        return bool(own) and named != own

    def _record(self, scope: Scope, *, status: int, seconds: float) -> None:
        route = scope["path"] if "endpoint" in scope else "unknown"
        if route.startswith(f"{OPENAI_PATH}/models/"):
            route = f"{OPENAI_PATH}/models/{{model}}"
        state = scope["state"]
        # 499: nothing was sent because the client had left; nginx's name for it.
        status = status or 499
        self._serving.metrics.requests.labels(route=route, status=str(status)).inc()
        self._serving.metrics.request_seconds.labels(route=route).observe(seconds)
        if state["error_code"] is not None:
            self._serving.metrics.errors.labels(code=state["error_code"]).inc()
        logger.info(
            "%s %s %d %.3fs request=%s user=%s",
            scope["method"],
            route,
            status,
            seconds,
            state["request_id"],
            _printable(state["user"]),
        )


async def _answer_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    request.scope["state"]["error_code"] = error.code or "invalid_value"
    return error.response()


async def _answer_internal(request: Request, error: Exception) -> Response:
    request.scope["state"]["error_code"] = "internal_error"
    return internal(request.scope["state"]["request_id"]).response()


def _unknown_route(serving: Serving) -> Callable[[Request, Exception], Response]:
    paths = ", ".join(
        route.path for route in ROUTES[serving.environment.task](serving) if hasattr(route, "path")
    )
    task = serving.environment.task.value

    def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        request.scope["state"]["error_code"] = "unknown_url"
        message = (
            f"{request.method} is not possible at {request.url.path}."
            if error.status_code == 405
            else f"There is no {request.url.path} here: this server does {task} and answers {paths}."
        )
        return ApiError(
            message, status=error.status_code, code="unknown_url", headers=error.headers
        ).response()

    return answer


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-Id, when it is a harmless one, so that the logs of both sides meet; else a
    new one.
    """
    for name, value in scope["headers"]:
        if name == b"x-request-id" and re.fullmatch(rb"[A-Za-z0-9._-]{1,128}", value):
            text: str = value.decode()
            return text
    return uuid4().hex


def _printable(text: str | None) -> str:
    return "-" if text is None else text.encode("unicode_escape").decode()[:64]
