"""A small Hugging Face hub on the loopback, for the real huggingface_hub client.

It answers what the client asks: model info by branch, tag or commit; files by HEAD and GET with ETags,
X-Linked-Etag and byte ranges. It can also misbehave on demand: gated repositories, rate limits, server
errors, a connection cut in the middle of a file, and damaged content.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

LARGE = (".safetensors", ".bin")
"""Kept in LFS, so listed with a sha256."""


@dataclass
class Repository:
    """One commit of a model, under the branch `main`."""

    name: str
    files: dict[str, bytes]
    commit: str = "1" * 40
    license: str = "apache-2.0"
    task: str = "text-generation"
    gated: bool = False
    token: str = ""
    """Opens a gated repository; empty = nothing does."""


@dataclass(frozen=True)
class Asked:
    """One request for a file."""

    path: str
    range: str


@dataclass
class Fault:
    """Something that goes wrong, `times` times, with the file `path` (or with model info when empty)."""

    path: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: float = 0.0
    """Share of the file after which the connection breaks."""
    damage: bool = False
    """The first byte is another one."""
    times: int = 1


class Hub:
    """Repositories, what goes wrong with them, and what was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.tokens: set[str] = set()
        """Those that it knows."""
        self.url = ""

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> Repository:
        self.repositories[name] = Repository(name=name, files=files, **options)
        return self.repositories[name]

    def take_fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.path == path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/whoami-v2", self._whoami),
                Route("/api/models/{owner}/{name}", self._info),
                Route("/api/models/{owner}/{name}/revision/{revision:path}", self._info),
                Route("/{owner}/{name}/resolve/{revision}/{path:path}", self._resolve),
            ]
        )

    async def _whoami(self, request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return Response(json.dumps({"error": "Invalid username or password."}), 401)
        return JSONResponse({"type": "user", "name": "staff"})

    async def _info(self, request: Request) -> Response:
        if fault := self.take_fault(""):
            return Response(status_code=fault.status, headers=fault.headers)
        repository = self._find(request)
        if repository is None:
            return _refuse(404, "RepoNotFound", "Repository not found")
        if request.path_params.get("revision", "main") not in ("main", "v1", repository.commit):
            return _refuse(404, "RevisionNotFound", "Invalid rev id")
        return JSONResponse(
            {
                "id": repository.name,
                "modelId": repository.name,
                "sha": repository.commit,
                "private": False,
                "gated": "manual" if repository.gated else False,
                "pipeline_tag": repository.task,
                "tags": ["safetensors", f"license:{repository.license}"],
                "siblings": [_sibling(path, data) for path, data in sorted(repository.files.items())],
            }
        )

    async def _resolve(self, request: Request) -> Response:
        repository, path = self._find(request), request.path_params["path"]
        if repository is None:
            return _refuse(404, "RepoNotFound", "Repository not found")
        if repository.gated and request.headers.get("authorization") != f"Bearer {repository.token}":
            signed_in = "authorization" in request.headers
            return _refuse(403 if signed_in else 401, "GatedRepo", "Access to this model is restricted")
        if path not in repository.files:
            return _refuse(404, "EntryNotFound", "Entry not found")
        if request.method == "GET":
            self.asked.append(Asked(path, request.headers.get("range", "")))
        fault = self.take_fault(path)
        if fault and fault.status:
            return Response(status_code=fault.status, headers=fault.headers)
        return _file(request, repository, path, fault)

    def _find(self, request: Request) -> Repository | None:
        return self.repositories.get(f"{request.path_params['owner']}/{request.path_params['name']}")


def _file(request: Request, repository: Repository, path: str, fault: Fault | None) -> Response:
    data = repository.files[path]
    if fault and fault.damage:
        data = bytes([data[0] ^ 1]) + data[1:]
    headers = {
        "X-Repo-Commit": repository.commit,
        "ETag": f'"{_blob_id(repository.files[path])}"',
        "Accept-Ranges": "bytes",
    }
    if path.endswith(LARGE):
        headers["X-Linked-Etag"] = f'"{hashlib.sha256(repository.files[path]).hexdigest()}"'
        headers["X-Linked-Size"] = str(len(data))
    start, end = _range(request.headers.get("range", ""), len(data))
    if start >= len(data):
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(data)}"})
    part = data[start:end]
    headers["Content-Length"] = str(len(part))
    if (start, end) != (0, len(data)):
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    status = 206 if "Content-Range" in headers else 200
    if fault and fault.cut_at:
        return StreamingResponse(_cut(part, round(len(part) * fault.cut_at)), status, headers)
    return Response(part, status, headers)


async def _cut(data: bytes, at: int) -> AsyncIterator[bytes]:
    """Sends the beginning, then breaks off: the announced length never comes."""
    yield data[:at]
    await asyncio.sleep(0)
    raise ConnectionAbortedError


def _range(header: str, length: int) -> tuple[int, int]:
    if not header:
        return 0, length
    first, _, last = header.removeprefix("bytes=").partition("-")
    return int(first), min(int(last) + 1, length) if last else length


def _sibling(path: str, data: bytes) -> dict[str, Any]:
    row: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": _blob_id(data)}
    if path.endswith(LARGE):
        row["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
    return row


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _refuse(status: int, code: str, message: str) -> Response:
    return Response(
        json.dumps({"error": message}), status, {"X-Error-Code": code, "X-Error-Message": message}
    )


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub on a free port of the loopback."""
    hub = Hub()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hub.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(hub.application(), log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        # Not the main thread: uvicorn leaves the signals of the test run alone there.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.should_exit = True
            thread.join(timeout=10)
