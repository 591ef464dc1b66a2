"""API keys: making, checking and retiring them.

A secret reads `mk_<8>_<40>`. The first two parts are its visible prefix, by which people recognize it in
lists. It has about 206 bits of randomness, so its plain sha256 is enough to store: a slow password hash
protects guessable secrets only, and would cost every request of the gateway.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

from django.db.models import Q
from django.utils import timezone

from marketplace.accounts.models import ApiKey, Organization, Scope, User
from marketplace.statements import Given, Statement

ALPHABET = string.ascii_lowercase + string.digits
PREFIX_LENGTH = 8
SECRET_LENGTH = 40
USE_IS_NOTED_EVERY = timedelta(minutes=1)

_key_of_hash = Statement(
    lambda: ApiKey.objects.select_related("organization", "created_by").filter(hash=Given("hash"))
)

Reason = Literal["unknown", "expired", "revoked"]


class KeyRefused(Exception):
    """A key that may not be used. `reason` is for programs, `message` for people."""

    def __init__(self, message: str, *, reason: Reason) -> None:
        super().__init__(message)
        self.message = message
        self.reason: Reason = reason


def hash_of(secret: str) -> str:
    """sha256 in hex. Surrogates (bytes of a header that are no UTF-8) are kept, and match nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def issue_key(
    *,
    organization: Organization,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    created_by: User | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its secret, which nobody can read again. Raises ValueError for an unknown scope."""
    wanted = sorted(set(scopes))
    if unknown := set(wanted) - set(Scope.values):
        raise ValueError(f"no such scope: {', '.join(sorted(unknown))}; there are {', '.join(Scope.values)}")
    prefix = f"mk_{_random(PREFIX_LENGTH)}"
    secret = f"{prefix}_{_random(SECRET_LENGTH)}"
    key = ApiKey.objects.create(
        organization=organization,
        name=name,
        prefix=prefix,
        hash=hash_of(secret),
        scopes=wanted,
        expires_at=expires_at,
        created_by=created_by,
    )
    return key, secret


def authenticate_key(secret: str, *, now: datetime) -> ApiKey:
    """The key with this secret, its organization loaded. Raises KeyRefused; writes nothing (see `touch`)."""
    found = _key_of_hash.objects(hash=hash_of(secret))
    if not found:
        raise KeyRefused("There is no such API key. Check that it was copied whole.", reason="unknown")
    key = found[0]
    if key.revoked_at is not None:
        raise KeyRefused(f"The API key {key.prefix}… has been revoked. Create a new one.", reason="revoked")
    if key.expires_at is not None and key.expires_at <= now:
        ended = key.expires_at.isoformat(timespec="seconds")
        raise KeyRefused(f"The API key {key.prefix}… expired at {ended}. Create a new one.", reason="expired")
    if key.created_by is not None and not key.created_by.is_active:
        raise KeyRefused(
            f"The person who made the API key {key.prefix}… has been deactivated. Create a new one.",
            reason="revoked",
        )
    return key


def touch(key: ApiKey, *, now: datetime | None = None) -> None:
    """Notes the use of a key, at most once a minute, so that a busy key does not write on every request."""
    now = now or timezone.now()
    due = now - USE_IS_NOTED_EVERY
    if key.last_used_at is not None and key.last_used_at > due:
        return
    # The condition again in the database: of many requests in the same moment, one writes.
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lte=due)
    ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
    key.last_used_at = now


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
