"""Real servers on real sockets for the gateway's tests: a runtime that does as it is told, one that breaks,
and any ASGI application in a thread."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WAIT = 20.0
"""Seconds; the longest that a test waits for a condition."""


@contextmanager
def serving(application: Any) -> Iterator[str]:
    """Runs an ASGI application; gives its host:port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield "{}:{}".format(*listener.getsockname())
    finally:
        server.should_exit = True
        thread.join(WAIT)
        assert not thread.is_alive()
        listener.close()


@dataclass
class Seen:
    """One request as it reached the runtime."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Runtime:
    """Stands in for a runtime container: speaks the protocol, and obeys the test.

    Unless it is `free`, a streaming answer sends each token but the first only when `let_token_go` is called;
    `gone` is set when a caller hung up in the middle.
    """

    name: str = "one"
    status: int = 200
    """Anything else is answered to every call, as an error of the runtime."""
    error: Any = None
    seen: list[Seen] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    tokens: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    free: bool = True
    """True: tokens flow by themselves."""
    script: str = ""
    """Events that are sent instead of any answer of its own, as they are."""

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.complete, methods=["POST"]),
                Route("/v1/embeddings", self.embed, methods=["POST"]),
                Route("/v1/audio/transcriptions", self.transcribe, methods=["POST"]),
                Route("/v1/responses", self.chat, methods=["POST"]),
                Route("/v1/silent", self.stay_silent, methods=["POST"]),
            ]
        )

    def let_token_go(self) -> None:
        self.tokens.release()

    async def _note(self, request: Request) -> Seen:
        seen = Seen(request.url.path, dict(request.headers), await request.body())
        self.seen.append(seen)
        self.arrived.set()
        return seen

    async def chat(self, request: Request) -> Response:
        body = (await self._note(request)).json
        if self.status != 200:
            return JSONResponse(self.error, status_code=self.status, headers={"retry-after": "7"})
        if self.script:
            return StreamingResponse(iter([self.script]), media_type="text/event-stream")
        words = ["Hello", " from", f" {self.name}"]
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        common = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
        if body.get("stream"):
            chunks = [
                common
                | {"object": "chat.completion.chunk"}
                | {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
                for word in words
            ]
            chunks.append(common | {"object": "chat.completion.chunk", "choices": [], "usage": usage})
            return StreamingResponse(self._events(chunks), media_type="text/event-stream")
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "".join(words)},
        }
        return JSONResponse(common | {"object": "chat.completion", "choices": [choice], "usage": usage})

    async def _events(self, chunks: list[Any]) -> AsyncIterator[str]:
        try:
            for number, chunk in enumerate(chunks):
                while number and not self.free and not self.tokens.acquire(blocking=False):
                    await asyncio.sleep(0.005)
                yield f"data: {json.dumps(chunk)}\n\n"
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.gone.set()
            raise

    async def complete(self, request: Request) -> Response:
        body = (await self._note(request)).json
        return JSONResponse(
            {
                "id": "cmpl-1",
                "object": "text_completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "text": "and so on", "finish_reason": "stop", "logprobs": None}],
                "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
            }
        )

    async def embed(self, request: Request) -> Response:
        body = (await self._note(request)).json
        return JSONResponse(
            {
                "object": "list",
                "model": body["model"],
                "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}],
                "usage": {"prompt_tokens": 4, "total_tokens": 4},
            }
        )

    async def transcribe(self, request: Request) -> Response:
        await self._note(request)
        async with request.form() as form:
            upload = form["file"]
            assert not isinstance(upload, str)
            size = len(await upload.read())
            return JSONResponse({"text": f"{size} bytes for {form['model']}"})

    async def stay_silent(self, request: Request) -> Response:
        """Never answers; notes when the caller has gone."""
        await self._note(request)
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
        raise ClientDisconnect


@contextmanager
def breaking(answer: bytes = b"") -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads one request on every connection, sends these bytes and closes.

    Gives its host:port and the requests it has got.
    """
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    requests.append(connection.recv(1_000_000))
                    connection.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield "{}:{}".format(*listener.getsockname()), requests
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(WAIT)


def unused_address() -> str:
    """host:port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "{}:{}".format(*listener.getsockname())
