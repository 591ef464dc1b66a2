"""Who calls. A key is looked up once and then remembered for a few seconds, in memory only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from deployments.gateway.database import Database
from deployments.gateway.errors import GatewayError, unauthorized
from deployments.gateway.remembering import Remembered
from marketplace.accounts.keys import KeyRefused, authenticate_key, touch
from marketplace.accounts.models import Scope


@dataclass(frozen=True, kw_only=True)
class Caller:
    """An accepted key."""

    organization: int
    """Database key of the organization."""
    api_key: str
    """Public id of the key."""
    may_infer: bool
    expires_at: datetime | None


class Keys:
    """Finds the caller of a request. A revocation takes effect within `age` seconds, an expiry at once."""

    def __init__(self, database: Database, *, age: float, stale: float) -> None:
        self._database = database
        self._callers: Remembered[str, Caller | KeyRefused] = Remembered(self._load, age=age, stale=stale)

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """The caller named by the Authorization header. Raises GatewayError 401 or 403."""
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise unauthorized(
                "No API key was given. Send it in the header 'Authorization: Bearer mk_…'.",
                code="missing_api_key",
            )
        found = await self._callers.get(secret)
        if isinstance(found, KeyRefused):
            raise unauthorized(found.message)
        if found.expires_at is not None and found.expires_at <= timezone.now():
            raise unauthorized(f"The API key expired at {found.expires_at:%Y-%m-%d %H:%M:%S} UTC.")
        if not found.may_infer:
            raise GatewayError(
                403,
                f"This API key has no scope '{Scope.INFER}'. Create one that has it.",
                code="insufficient_scope",
                type="permission_error",
            )
        return found

    async def _load(self, secret: str) -> Caller | KeyRefused:
        return await self._database.run(_authenticate, secret)


def _authenticate(secret: str) -> Caller | KeyRefused:
    now = timezone.now()
    try:
        key = authenticate_key(secret, now=now)
    except KeyRefused as refusal:
        return refusal
    touch(key, now=now)
    return Caller(
        organization=key.organization_id,
        api_key=key.public_id,
        may_infer=Scope.INFER in key.scopes,
        expires_at=key.expires_at,
    )
