"""What a kubelet asks the web process."""

from __future__ import annotations

import httpx
import pytest
from django.db import connections

from marketplace.config.asgi import application
from marketplace.config.probes import Application, Probes


async def ask(path: str, *, host: str, of: Application = application) -> tuple[int, str]:
    transport = httpx.ASGITransport(app=of)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        answer = await client.get(path)
    return answer.status_code, answer.text


async def test_it_says_that_it_is_alive_to_whoever_calls_by_the_pods_address() -> None:
    assert await ask("/live", host="10.244.0.7:8080") == (200, "live\n")


@pytest.mark.django_db(transaction=True)
async def test_it_is_ready_once_the_database_has_answered() -> None:
    assert await ask("/ready", host="10.244.0.7:8080") == (200, "ready\n")


@pytest.mark.django_db(transaction=True)
async def test_it_is_not_ready_before_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Probes(application)
    with monkeypatch.context() as away:
        away.setitem(connections["default"].settings_dict, "HOST", "/nowhere")
        # Not where it should be: anybody may ask.
        answer = await ask("/ready", host="10.244.0.7", of=fresh)
        assert answer == (503, "the database does not answer\n")
    assert await ask("/ready", host="10.244.0.7", of=fresh) == (200, "ready\n")


@pytest.mark.django_db
async def test_other_pages_still_refuse_a_foreign_host() -> None:
    status, _ = await ask("/sign-in/", host="evil.example")
    assert status == 400
