"""System checks of workspaces: what keeps an installation from offering them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

from deployments.workspaces.addresses import is_apart


@register(Tags.security)
def check_gateway_is_apart(app_configs: Sequence[AppConfig] | None, **options: Any) -> list[CheckMessage]:
    """Customers' code must not run on the origin that people are signed in to."""
    if is_apart():
        return []
    return [
        Warning(
            f"WEB_URL and GATEWAY_URL are both {settings.WEB_URL}, so no workspaces are offered.",
            hint="Give the gateway a host name of its own: workspaces run customers' code in browsers.",
            id="workspaces.W001",
        )
    ]
