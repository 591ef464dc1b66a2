"""Where a workspace is found through the gateway."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

from django.conf import settings

from deployments.serving.spec import workspace_path


def url_of(public_id: str) -> str:
    """The address of a workspace; it asks for the token."""
    return f"{settings.GATEWAY_URL}{workspace_path(public_id)}"


def is_apart() -> bool:
    """Whether the gateway has an origin of its own.

    Workspaces run their customer's code in the browser too: on the portal's origin it could act as whoever is
    signed in there.
    """
    return _origin(settings.GATEWAY_URL) != _origin(settings.WEB_URL)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def open_url(public_id: str, *, token: str) -> str:
    """The address that opens it at once. The server keeps the token in a cookie from then on."""
    return f"{url_of(public_id)}?{urlencode({'token': token})}"
