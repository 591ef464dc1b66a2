"""The server that is checked, and the ways to talk to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import httpx
from openai import OpenAI

SECONDS = 120.0
"""Longest wait for any one thing; a check that needs it fails."""


@dataclass
class Target:
    """A server. Close it when done: it holds the clients' connections."""

    url: str
    """Without the `/v1`."""
    model: str
    api_key: str = "unused"
    clients: ExitStack = field(default_factory=ExitStack)
    _sdk: OpenAI | None = None
    _http: httpx.Client | None = None

    @property
    def sdk(self) -> OpenAI:
        """The official client."""
        if self._sdk is None:
            made = OpenAI(base_url=f"{self.url}/v1", api_key=self.api_key, max_retries=0, timeout=SECONDS)
            self._sdk = self.clients.enter_context(closing(made))
        return self._sdk

    @property
    def http(self) -> httpx.Client:
        """Plain HTTP, with the key."""
        if self._http is None:
            made = httpx.Client(base_url=self.url, timeout=SECONDS, headers=self.headers)
            self._http = self.clients.enter_context(closing(made))
        return self._http

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"}

    @contextmanager
    def socket(self) -> Iterator[socket.socket]:
        """A connection that knows nothing of HTTP."""
        parts = urlsplit(self.url)
        address = (parts.hostname or "localhost", parts.port or 80)
        with closing(socket.create_connection(address, timeout=SECONDS)) as connection:
            yield connection

    def head(self, path: str, *, length: int | None, extra: Sequence[str] = ()) -> bytes:
        """The beginning of a POST; without a length the body is chunked."""
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        lines = [f"POST {path} HTTP/1.1", "Host: conformance", "Content-Type: application/json", framing]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, *extra, "", ""]).encode()

    def close(self) -> None:
        self.clients.close()


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case and body of the next answer on the connection."""
    with closing(HTTPResponse(connection)) as response:
        response.begin()
        body = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, body


def equal(actual: Any, expected: Any) -> None:
    """Fails with both values."""
    assert actual == expected, f"expected {expected!r}, got {actual!r}"


def refused(
    response: httpx.Response, *, param: str | None = None, status: int | Sequence[int] = 400
) -> dict[str, Any]:
    """The error of a refusal in the protocol's shape that names this field, or one within it."""
    statuses = [status] if isinstance(status, int) else status
    assert response.status_code in statuses, f"status {response.status_code}: {response.text[:200]}"
    error = response.json().get("error")
    assert isinstance(error, dict), f"no error object: {response.text[:200]}"
    assert {"message", "type", "param", "code"} <= set(error), f"the error has only {sorted(error)}"
    if param is not None:
        named = str(error["param"])
        assert named == param or named.startswith(f"{param}."), f"names {named!r}, not {param!r}"
    return error
