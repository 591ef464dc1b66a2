"""Turns a refused wish into problem details, for every view that writes wishes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deployments.serving.errors import WishRefused
from marketplace.rest.problems import Problem


@contextmanager
def refusals_as_problems() -> Iterator[None]:
    """Turns a refused wish into 409 problem details naming the field."""
    try:
        yield
    except WishRefused as refusal:
        errors = [{"field": refusal.field, "message": refusal.message}] if refusal.field else []
        raise Problem(
            status=409,
            type=refusal.type,
            title=refusal.type.replace("-", " ").capitalize(),
            detail=refusal.message,
            errors=errors,
            **refusal.extra,
        ) from refusal
