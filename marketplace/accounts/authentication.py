"""How a REST request says who it is: `Authorization: Bearer mk_…`, or the session of the portal."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.utils import timezone
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from marketplace.accounts.keys import KeyRefused, authenticate_key, touch
from marketplace.accounts.models import ApiKey, User
from marketplace.rest.problems import Problem

CHALLENGE = 'Bearer realm="marketplace"'


def unauthorized(detail: str, *, type: str) -> Problem:
    """A 401 problem with the challenge that RFC 9110 asks for."""
    return Problem(
        status=401, type=type, title="Not signed in", detail=detail, headers={"WWW-Authenticate": CHALLENGE}
    )


def bearer_of(header: str) -> str | None:
    """The secret in an Authorization header; None when there is none, which leaves it to the session.

    Raises a 401 problem for a header in another form: whoever sends one means to be somebody.
    """
    if not header:
        return None
    scheme, _, secret = header.partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret or " " in secret:
        raise unauthorized(
            "The header Authorization is not usable: write 'Authorization: Bearer mk_…'.",
            type="malformed-authorization",
        )
    return secret


class ApiKeyAuthentication(authentication.BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User | AnonymousUser, ApiKey] | None:
        secret = bearer_of(request.headers.get("Authorization", ""))
        if secret is None:
            return None
        try:
            key = authenticate_key(secret, now=timezone.now())
        except KeyRefused as refused:
            raise unauthorized(refused.message, type=f"key-{refused.reason}") from refused
        touch(key)
        return key.created_by or AnonymousUser(), key

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's session, for the portal. A changing request needs the CSRF token, as a form does."""

    def enforce_csrf(self, request: Request) -> None:
        try:
            super().enforce_csrf(request)
        except exceptions.PermissionDenied as denied:
            raise Problem(
                status=403,
                type="csrf-failed",
                title="Not from this site",
                detail=f"{denied.detail}. Send the header X-CSRFToken, or use an API key.",
            ) from denied
