"""Writes the audit trail: in the transaction of the change, so that neither is kept without the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marketplace.accounts.actors import Actor
from marketplace.accounts.models import AuditEvent


def record(
    *,
    actor: Actor,
    action: str,
    target: str = "",
    changes: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Notes that `actor` did `action` ("noun.verb") to the object with the public id `target`.

    `changes` maps a field to [before, after] in JSON values. Secrets never go in.
    """
    return AuditEvent.objects.create(
        organization=actor.organization,
        actor_user=actor.user.email if actor.user else "",
        actor_key=actor.api_key.public_id if actor.api_key else "",
        action=action,
        target=target,
        changes=dict(changes or {}),
    )
