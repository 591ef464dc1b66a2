"""Large bodies are refused by the real server without being kept."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from marketplace.config.asgi import application
from marketplace.rest.limits import BodyLimit
from tests.people import Person

CHUNK = b" " * 65536
HUNDRED_MB = 100_000_000


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A real server of the web process."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("declared", [True, False], ids=["with its length", "chunked"])
def test_it_refuses_a_body_of_100_mb(base_url: str, declared: bool) -> None:
    headers = {"Content-Length": str(HUNDRED_MB)} if declared else {}
    headers |= {"Content-Type": "application/json", "X-Request-Id": "big"}

    def body() -> Iterator[bytes]:
        for begin in range(0, HUNDRED_MB, len(CHUNK)):
            yield CHUNK[: HUNDRED_MB - begin]

    answer = httpx.post(f"{base_url}/api/v1/organization/", content=body(), headers=headers)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "/problems/body-too-large",
        "title": "Body too large",
        "status": 413,
        "detail": "The body is larger than the 1,000,000 bytes that this address takes.",
        "request_id": "big",
        "limit": 1_000_000,
    }


async def test_it_reads_no_more_than_it_needs_to_refuse() -> None:
    """The application sees no byte over the limit, and of what follows only a bounded part is drained."""
    seen = 0
    given = 0
    sent: list[dict[str, object]] = []

    async def reads_all(scope: object, receive: object, send: object) -> None:
        nonlocal seen
        while (message := await receive())["more_body"]:  # type: ignore[operator]
            seen += len(message["body"])

    async def receive() -> dict[str, object]:
        nonlocal given
        given += len(CHUNK)
        await asyncio.sleep(0)
        return {"type": "http.request", "body": CHUNK, "more_body": True}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/api/v1/organization/", "headers": []}
    await BodyLimit(reads_all)(scope, receive, send)
    assert sent[0]["status"] == 413
    assert seen <= 1_000_000
    assert given <= 10_000_000


@pytest.mark.django_db(transaction=True)
def test_it_takes_a_body_just_below_the_limit(base_url: str, alice: Person) -> None:
    _, secret = alice.key()
    name = b'{"name": "Acme Labs"}'
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    body = name + b" " * (1_000_000 - len(name))
    answer = httpx.patch(f"{base_url}/api/v1/organization/", content=body, headers=headers)
    assert (answer.status_code, answer.json()["name"]) == (200, "Acme Labs")
    answer = httpx.patch(f"{base_url}/api/v1/organization/", content=body + b" ", headers=headers)
    assert answer.status_code == 413
