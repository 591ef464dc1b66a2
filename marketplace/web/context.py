"""What every template of the portal knows: the navigation and the person's organizations."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from marketplace.accounts.actors import actor_of
from marketplace.accounts.models import User
from marketplace.rest.problems import Problem

NAVIGATION = (
    ("catalog", "Catalog"),
    ("deployments", "Deployments"),
    ("fine-tuning", "Fine-tuning"),
    ("workspaces", "Workspaces"),
    ("usage", "Usage"),
    ("api-keys", "API keys"),
    ("members", "Members"),
)
"""URL names and labels, in the order of the work: choose, deploy, tune, work, pay; then the housekeeping."""


def portal(request: HttpRequest) -> dict[str, Any]:
    context: dict[str, Any] = {"navigation": _navigation(request.path), "gateway_url": settings.GATEWAY_URL}
    if isinstance(getattr(request, "user", None), User):
        user = request.user
        context["organizations"] = list(user.organizations.order_by("name"))  # type: ignore[union-attr]
        try:
            context["organization"] = actor_of(request).organization
        except Problem:
            context["organization"] = None  # a member of none: the page itself says so
    return context


def _navigation(path: str) -> list[dict[str, Any]]:
    entries = []
    for name, label in NAVIGATION:
        try:
            url = reverse(name)
        except NoReverseMatch:
            continue  # this installation has no such page
        current = path == url or (url != "/" and path.startswith(url))
        entries.append({"label": label, "url": url, "current": current})
    return entries
