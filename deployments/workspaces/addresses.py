"""Where a workspace is found through the gateway."""

from __future__ import annotations

from urllib.parse import urlencode

from django.conf import settings

from deployments.serving.spec import workspace_path


def url_of(public_id: str) -> str:
    """The address of a workspace; it asks for the token."""
    return f"{settings.GATEWAY_URL}{workspace_path(public_id)}"


def open_url(public_id: str, *, token: str) -> str:
    """The address that opens it at once. The server keeps the token in a cookie from then on."""
    return f"{url_of(public_id)}?{urlencode({'token': token})}"
