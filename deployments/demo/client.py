"""The REST API as the demo uses it: JSON in and out, problems as exceptions, waiting with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx


class DemoFailed(Exception):
    """A step did not show what it should. The message says what was expected and what came."""


class RestClient:
    """One organization's view of the REST API, by API key."""

    def __init__(self, *, base_url: str, api_key: str) -> None:
        self._http = httpx.Client(
            base_url=f"{base_url}/api/v1/",
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=30.0,
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        return self._answer(self._http.get(path, params=params))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._answer(self._http.post(path, json=body or {}))

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._answer(self._http.patch(path, json=body))

    def delete(self, path: str) -> Any:
        return self._answer(self._http.delete(path))

    def upload(self, path: str, *, name: str, content: bytes) -> Any:
        """Multipart upload of a dataset."""
        files = {"file": (f"{name}.jsonl", content, "application/jsonl")}
        return self._answer(self._http.post(path, data={"name": name}, files=files))

    def refused(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The problem that a request is answered with; fails when it is not refused."""
        response = self._http.request(method, path, **options)
        if response.status_code < 400:
            raise DemoFailed(f"{method} {path} was accepted and should have been refused")
        problem: dict[str, Any] = response.json()
        return problem

    def wait(
        self, path: str, until: Callable[[dict[str, Any]], bool], *, failed: Callable[[dict[str, Any]], bool],
        seconds: float, watch: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> dict[str, Any]:  # fmt: skip
        """Reads until `until` holds. Raises DemoFailed when `failed` does, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            document: dict[str, Any] = self.get(path)
            watch(document)
            if until(document):
                return document
            if failed(document):
                raise DemoFailed(f"{path} failed: {_summary(document)}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"{path} was not there after {seconds:g} s: {_summary(document)}")
            time.sleep(0.2)

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        if response.status_code >= 400:
            problem = response.text[:2000]
            raise DemoFailed(
                f"{response.request.method} {response.request.url}: {response.status_code} {problem}"
            )
        return response.json() if response.content else None


def _summary(document: dict[str, Any]) -> str:
    known = ("state", "conditions", "error", "progress")
    return ", ".join(f"{key}={document[key]}" for key in known if key in document)
