"""Workspaces through the gateway: HTTP and WebSockets of `/workspaces/<id>/…` to the pod that answers for it.

Who may enter is decided by the notebook server, which knows its token; the gateway only knows where it is.
Bytes pass as they come, in both directions: neither a notebook nor an upload is ever held whole.
"""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import aiohttp
from django.db import DatabaseError, InterfaceError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, Response
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from deployments.gateway.calls import request_id_of
from deployments.gateway.errors import GatewayError, unavailable, upstream_failed
from deployments.gateway.limits import Limits
from deployments.gateway.passing import headers_for_browser, headers_for_workspace, wants_html
from deployments.gateway.rooms import Room, Rooms
from deployments.gateway.upstreams import open_session

logger = logging.getLogger(__name__)

MESSAGE_BYTES = 64 * 2**20
"""Largest message of a notebook server; figures are told in one."""
PING_SECONDS = 30.0
"""A pod that went away without a word is noticed after so long."""
WENT_AWAY = 1012
"""WebSocket close code "service restart": the notebook's page connects again by itself."""
REFRESH_SECONDS = 5
_ADDED_BY_CLIENT = ("user-agent", "accept", "accept-encoding", "content-type")


class WorkspaceProxy:
    """The ASGI endpoint of everything below /workspaces."""

    def __init__(self, *, rooms: Rooms, limits: Limits) -> None:
        self._rooms = rooms
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Begins, inside the event loop that calls will use."""
        self._session = open_session(self._limits, not_added=_ADDED_BY_CLIENT)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            room = await self._enter(scope["path_params"]["workspace"])
            pass_on = self._talk if scope["type"] == "websocket" else self._answer
            await pass_on(room, scope, receive, send)
        except GatewayError as error:
            await _refuse(error, headers=headers)(scope, receive, send)
        except ClientDisconnect:
            pass

    async def _enter(self, public_id: str) -> Room:
        try:
            return await self._rooms.enter(public_id)
        except (DatabaseError, InterfaceError) as error:
            raise unavailable(
                "The gateway cannot look up workspaces at the moment.",
                code="gateway_unavailable",
                retry_after=2,
            ) from error

    # --- HTTP ----------------------------------------------------------------------------------------------

    async def _answer(self, room: Room, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        has_body = "content-length" in headers or "transfer-encoding" in headers
        response = await self._ask(
            room,
            scope["method"],
            _url(room, scope, scheme="http"),
            headers=_passed(room, scope),
            data=_body(receive) if has_body else None,
        )
        try:
            passed = headers_for_browser(response.raw_headers, workspace=room.public_id)
            await send({"type": "http.response.start", "status": response.status, "headers": passed})
            await _first_of(_relay(response, send), _hung_up(receive))
        finally:
            # A whole answer has given its connection back; any other ends with its connection.
            response.close()

    async def _ask(self, room: Room, method: str, url: URL, **request: Any) -> aiohttp.ClientResponse:
        assert self._session is not None, "open() comes first"
        try:
            return await self._session.request(method, url, allow_redirects=False, **request)
        except TimeoutError as error:
            raise self._silent(room, error) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._silent(room, error) from error

    def _silent(self, room: Room, error: Exception) -> GatewayError:
        self._rooms.forget(room.public_id)
        logger.warning("workspace %s at %s does not answer: %r", room.public_id, room.address, error)
        return upstream_failed(f"The workspace '{room.name}' does not answer. Try again in a few seconds.")

    # --- WebSockets ----------------------------------------------------------------------------------------

    async def _talk(self, room: Room, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._session is not None, "open() comes first"
        await receive()  # websocket.connect
        try:
            server = await self._session.ws_connect(
                _url(room, scope, scheme="ws"),
                headers=_passed(room, scope),
                protocols=tuple(scope.get("subprotocols") or ()),
                max_msg_size=MESSAGE_BYTES,
                heartbeat=PING_SECONDS,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise GatewayError(
                error.status,
                f"The workspace '{room.name}' refuses this connection ({error.status}): is the token right?",
                code="workspace_refused",
            ) from error
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise self._silent(room, error) from error
        async with server:
            await send({"type": "websocket.accept", "subprotocol": server.protocol, "headers": []})
            await _first_of(_from_browser(receive, server), _to_browser(server, send))


def _url(room: Room, scope: Scope, *, scheme: str) -> URL:
    """The same path and query at the pod, byte for byte."""
    path = scope["raw_path"].decode("ascii")
    query = scope["query_string"].decode("ascii")
    return URL(f"{scheme}://{room.address}{path}{'?' if query else ''}{query}", encoded=True)


def _passed(room: Room, scope: Scope) -> list[tuple[str, str]]:
    caller = scope.get("client") or ("", 0)
    scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
    return headers_for_workspace(
        scope["headers"], workspace=room.public_id, scheme=scheme, caller=str(caller[0])
    )


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if chunk := message.get("body"):
            yield chunk
        if not message.get("more_body"):
            return


async def _relay(response: aiohttp.ClientResponse, send: Send) -> None:
    """The answer as it comes. One that breaks off ends without its end, so that nobody takes it for whole."""
    while chunk := await response.content.readany():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _from_browser(receive: Receive, server: aiohttp.ClientWebSocketResponse) -> None:
    while True:
        message: Message = await receive()
        if message["type"] == "websocket.disconnect":
            await server.close(code=_sendable(message.get("code")))
            return
        if message.get("text") is not None:
            await server.send_str(message["text"])
        elif message.get("bytes") is not None:
            await server.send_bytes(message["bytes"])


async def _to_browser(server: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    async for message in server:
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
    await send({"type": "websocket.close", "code": _sendable(server.close_code)})


def _sendable(code: int | None) -> int:
    """RFC 6455, 7.4: some codes only say that none was sent, or that the connection was lost."""
    return code if code is not None and (code in (1000, 1001, 1011) or code >= 3000) else WENT_AWAY


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Waits until one of them is done, and ends the others. Raises what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for task, result in zip(tasks, results, strict=True):
        if task in done and isinstance(result, Exception):
            raise result


def _refuse(error: GatewayError, *, headers: Headers) -> Response:
    """A page for people, JSON for programs; both say what the matter is."""
    response = error.to_response(request_id=request_id_of(headers))
    if not wants_html(headers):
        return response
    waits = f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">' if error.retry_after else ""
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Workspace</title>{waits}</head>'
        f"<body><p>{html.escape(error.message)}</p></body></html>"
    )
    kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
    return HTMLResponse(page, status_code=error.status, headers=kept)
