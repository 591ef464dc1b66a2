"""Finds every route of the REST API by walking the URLconf, so that none can be forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from marketplace.accounts.permissions import required_scope

ROOT = "api/v1/"
SAFE = frozenset({"GET"})


@dataclass(frozen=True)
class Route:
    """One method of one address, such as `GET members/{public_id}/`."""

    method: str
    template: str  # below /api/v1/
    scope: str  # that it needs

    def __str__(self) -> str:
        return f"{self.method} {self.template}"

    @property
    def resource(self) -> str:
        """First part of the address: what the route is about."""
        return self.template.partition("/")[0]

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(re.findall(r"{(\w+)}", self.template))

    @property
    def is_safe(self) -> bool:
        return self.method in SAFE

    def url(self, **values: object) -> str:
        return f"/{ROOT}{self.template.format(**values)}"


def api_routes() -> list[Route]:
    """Every route below /api/v1/, by address and method."""
    found = set(_walk(get_resolver().url_patterns, ""))
    return sorted(found, key=lambda route: (route.template, route.method))


def _walk(patterns: Iterable[URLPattern | URLResolver], prefix: str) -> Iterator[Route]:
    for pattern in patterns:
        address = prefix + _template(str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, address)
        elif address.startswith(ROOT):
            yield from _methods(pattern.callback, address.removeprefix(ROOT))


def _methods(view: Any, template: str) -> Iterator[Route]:
    """REST framework's views only: whatever else stands below /api/v1/ fails here, on purpose."""
    methods = getattr(view, "actions", None) or [
        name for name in view.cls.http_method_names if hasattr(view.cls, name)
    ]
    for method in (name.upper() for name in methods):
        if method not in ("HEAD", "OPTIONS"):
            # What `@action(required_scopes=…)` says goes before what the class says.
            holder = type("View", (view.cls,), getattr(view, "initkwargs", {}))
            yield Route(method=method, template=template, scope=str(required_scope(holder, method)))


def _template(pattern: str) -> str:
    """`^members/(?P<public_id>[^/.]+)/$` and `members/<slug:public_id>/` as `members/{public_id}/`."""
    pattern = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", pattern)
    pattern = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", pattern)
    return pattern.replace("^", "").replace("$", "").replace("\\Z", "").replace("\\", "")
