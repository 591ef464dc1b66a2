"""Static files come from this site."""

from __future__ import annotations

import pytest
from django.test import AsyncClient, Client


@pytest.mark.parametrize("name", ["web/site.css", "web/icon.svg", "admin/css/base.css"])
async def test_they_are_served_under_asgi_without_a_warning(name: str) -> None:
    answer = await AsyncClient().get(f"/static/{name}")
    assert (answer.status_code, len(answer.content)) == (200, int(answer["Content-Length"]))


def test_an_unchanged_file_is_not_sent_again() -> None:
    first = Client().get("/static/web/site.css")
    second = Client().get("/static/web/site.css", headers={"If-Modified-Since": first["Last-Modified"]})
    assert (first["Content-Type"], second.status_code, second.content) == (
        'text/css; charset="utf-8"',
        304,
        b"",
    )
