"""Records what happened to a workload, in the customer's words. Events are only ever added."""

from __future__ import annotations

from typing import Any

from deployments.serving.models import Event, EventSource
from deployments.serving.workload import Workload
from marketplace.accounts.actors import Actor


def record_wish(workload: Workload, *, actor: Actor, reason: str, message: str, **data: Any) -> Event:
    """Something a customer asked for. Call it in the transaction that writes the wish."""
    return Event.objects.create(
        organization=workload.organization,
        resource=workload.public_id,
        source=EventSource.CUSTOMER,
        actor=actor.name,
        reason=reason,
        message=message,
        data=data,
    )


def record_fact(workload: Workload, *, reason: str, message: str, **data: Any) -> Event:
    """Something that was observed. Call it in the transaction that writes the fact."""
    return Event.objects.create(
        organization=workload.organization,
        resource=workload.public_id,
        source=EventSource.SYSTEM,
        reason=reason,
        message=message,
        data=data,
    )
