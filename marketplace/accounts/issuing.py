"""Issues and revokes API keys on behalf of an actor: `keys.py` plus who may, and the audit trail."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from marketplace.accounts.actors import Actor
from marketplace.accounts.audit import record
from marketplace.accounts.keys import issue_key
from marketplace.accounts.models import ApiKey
from marketplace.rest.problems import Problem, invalid


@transaction.atomic
def create_key(
    *, actor: Actor, name: str, scopes: Collection[str], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A new key of the actor's organization, and its secret.

    Raises problems: 403 for scopes that the actor lacks, 400 for an expiry in the past.
    """
    if missing := set(scopes) - actor.scopes:
        raise Problem(
            status=403,
            type="wider-than-own",
            title="More than you may do yourself",
            detail=f"You lack these scopes yourself: {', '.join(sorted(missing))}. "
            f"You can give: {', '.join(sorted(actor.scopes))}.",
        )
    if expires_at is not None and expires_at <= timezone.now():
        raise invalid([{"field": "expires_at", "message": "This time is past: give one to come, or none."}])
    key, secret = issue_key(
        organization=actor.organization,
        name=name,
        scopes=scopes,
        expires_at=expires_at,
        # A key made with a key leaves with the same person.
        created_by=actor.user or (actor.api_key.created_by if actor.api_key else None),
    )
    record(
        actor=actor,
        action="api_key.create",
        target=key.public_id,
        changes={
            "name": [None, name],
            "scopes": [None, key.scopes],
            "expires_at": [None, expires_at.isoformat() if expires_at else None],
        },
    )
    return key, secret


@transaction.atomic
def revoke_key(*, actor: Actor, key: ApiKey) -> ApiKey:
    """Ends a key now and for good. A key that is revoked already stays as it is."""
    key = ApiKey.objects.select_for_update().get(pk=key.pk)
    if key.revoked_at is None:
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])
        record(
            actor=actor,
            action="api_key.revoke",
            target=key.public_id,
            changes={"revoked_at": [None, key.revoked_at.isoformat()]},
        )
    return key
