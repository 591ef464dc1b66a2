"""Requests of the web process run in threads that stay, and keep their connection to the database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from pytest_django import Settings

from marketplace.config.handler import ThreadsHandler

seen: list[tuple[str, int]] = []
"""Thread and server process of the database of each request."""


def who(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        seen.append((threading.current_thread().name, cursor.fetchone()[0]))
    return HttpResponse(request.body)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        yield "one "
        yield "two"

    return StreamingHttpResponse(parts())


def fail(request: HttpRequest) -> HttpResponse:
    raise ValueError("a bug")


urlpatterns = [path("who/", who), path("stream/", stream), path("fail/", fail)]


@pytest.fixture
def handler(settings: Settings) -> Iterator[ThreadsHandler]:
    settings.ROOT_URLCONF = __name__
    settings.ALLOWED_HOSTS = ["web"]
    settings.MIDDLEWARE = []
    running = ThreadsHandler(threads=1)
    yield running
    running.close()


async def ask(handler: Any, *paths: str, body: bytes = b"") -> list[httpx.Response]:
    transport = httpx.ASGITransport(app=handler)
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        return [await client.request("POST" if body else "GET", path, content=body) for path in paths]


@pytest.mark.django_db(transaction=True)
async def test_requests_share_a_thread_and_its_connection(
    handler: ThreadsHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    seen.clear()
    answers = await ask(handler, "/who/", "/who/", body=b"as it was sent")
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"as it was sent")] * 2
    assert len(set(seen)) == 1


@pytest.mark.django_db(transaction=True)
async def test_a_connection_that_may_not_stay_is_closed_in_its_thread(handler: ThreadsHandler) -> None:
    seen.clear()
    await ask(handler, "/who/", "/who/")
    assert len(seen) == 2 == len(set(seen))


async def test_a_stream_arrives_whole(handler: ThreadsHandler) -> None:
    (answer,) = await ask(handler, "/stream/")
    assert (answer.status_code, answer.text) == (200, "one two")


async def test_a_bug_is_an_answer_too(handler: ThreadsHandler) -> None:
    (answer,) = await ask(handler, "/fail/")
    assert answer.status_code == 500


async def test_what_is_no_request_is_refused(handler: ThreadsHandler) -> None:
    with pytest.raises(ValueError, match="answers HTTP, not websocket"):
        await handler({"type": "websocket"}, None, None)
