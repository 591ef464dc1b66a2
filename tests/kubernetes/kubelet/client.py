"""A small asynchronous client of the Kubernetes API, for a kubelet that has thousands of pods on one loop.

The kubeconfig is read by the official client, whose models would cost more than the requests.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from kubernetes.client import Configuration
from kubernetes.config import load_kube_config

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Client:
    """One connection pool to one API server."""

    def __init__(self, kubeconfig: Path, *, agent: str, connections: int = 20) -> None:
        configuration = Configuration()
        load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
        self._host = configuration.host
        self._headers = {"User-Agent": agent, "Accept": "application/json"}
        for item in configuration.auth_settings().values():
            if item.get("value"):
                self._headers[str(item["key"])] = str(item["value"])
        self._tls: ssl.SSLContext | bool = True
        if self._host.startswith("https"):
            self._tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
            if configuration.cert_file:
                self._tls.load_cert_chain(configuration.cert_file, configuration.key_file)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._connections, ssl=self._tls)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def request(
        self, method: str, path: str, body: Any = None, *, content: str = "application/json", **query: str
    ) -> dict[str, Any]:
        """One call. Raises ApiError for an error, aiohttp.ClientError or TimeoutError when nobody answers."""
        assert self._session is not None
        data = None if body is None else json.dumps(body)
        async with self._session.request(
            method,
            self._host + path,
            data=data,
            params=query,
            headers={"Content-Type": content},
            timeout=aiohttp.ClientTimeout(total=30),
        ) as answer:
            text = await answer.read()
            found: dict[str, Any] = json.loads(text) if text.startswith(b"{") else {}
            if answer.status >= 400:
                raise ApiError(answer.status, found.get("message") or text.decode(errors="replace"))
            return found

    async def patch(self, path: str, body: Mapping[str, Any], *, content: str = STRATEGIC) -> dict[str, Any]:
        return await self.request("PATCH", path, body, content=content)

    async def watch(self, path: str, **query: str) -> AsyncIterator[dict[str, Any]]:
        """The events of a watch, until it ends or its connection does. Raises as `request` does."""
        assert self._session is not None
        async with self._session.get(
            self._host + path,
            params={"watch": "true", "allowWatchBookmarks": "true", **query},
            # A server that vanished without a word is noticed by the absence of bookmarks.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=90),
        ) as answer:
            if answer.status >= 400:
                raise ApiError(answer.status, await answer.text())
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)
