"""Writes what is new about a deletion, and in the end its receipt. Called within the transaction that records
a look, after its replicas: what they cost is in the ledger by then.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from django.db.models import DateTimeField, F, Func, Max

from deployments.clusters.port import RESOURCE_LABEL
from deployments.reconcile.decision import DeletionRecord
from deployments.reconcile.deletion import WINDOW, Asked
from deployments.serving.models import Deletion, DeletionReceipt
from deployments.serving.workload import Workload
from marketplace.billing.models import UsageInterval
from marketplace.billing.statement import BILLED_CAUSE, totals
from marketplace.billing.usage import Selection, recorded_lines

log = logging.getLogger(__name__)


def deletions_of(resources: Collection[str]) -> dict[str, Deletion]:
    """Resource -> its deletion. No query for none."""
    if not resources:
        return {}
    return {deletion.resource: deletion for deletion in Deletion.objects.filter(resource__in=resources)}


def asked_of(row: Workload, deletion: Deletion | None, *, now: datetime) -> Asked:
    """The deletion as a value. It goes on without its row: then the wish alone says since when."""
    if deletion is None:
        requested_at = row.stop_requested_at or now
        return Asked(requested_at=requested_at, deadline=requested_at + WINDOW, gone_at=row.deleted_at)
    return Asked(
        requested_at=deletion.requested_at,
        deadline=deletion.deadline,
        inventory=deletion.inventory,
        stuck_at=deletion.stuck_at,
        gone_at=deletion.gone_at,
    )


def record_deletion(row: Workload, record: DeletionRecord) -> None:
    """Writes the facts, tells the provider what they have to know, and issues the receipt of what is gone."""
    asked_at = row.stop_requested_at or row.created_at
    deletion, _ = Deletion.objects.update_or_create(
        resource=row.public_id,
        defaults=dict(record.columns),
        create_defaults={
            "organization_id": row.organization_id,
            "resource_name": row.name,
            "cluster": row.cluster.slug,
            "requested_at": asked_at,
            "deadline": asked_at + WINDOW,
            **record.columns,
        },
    )
    if record.alert:
        log.error("deletion %s of %s is stuck: %s", deletion.public_id, row.public_id, record.alert)
    if record.columns.get("gone_at"):
        _issue_receipt(row, deletion, gone_at=record.columns["gone_at"])


def _issue_receipt(row: Workload, deletion: Deletion, *, gone_at: datetime) -> None:
    """One receipt for each resource, whatever happens to it later."""
    lines = recorded_lines(Selection(organization=row.organization, resource=row.public_id))
    DeletionReceipt.objects.get_or_create(
        resource=row.public_id,
        defaults={
            "organization_id": row.organization_id,
            "resource_name": row.name,
            "requested_at": deletion.requested_at,
            "requested_by": deletion.requested_by,
            "gone_at": gone_at,
            "last_billed_at": _last_billed_at(row.public_id),
            "totals": list(_totals(lines)),
            "inventory": [],
            "observation": {
                "cluster": row.cluster.slug,
                "observed_at": gone_at.isoformat(),
                "selector": f"{RESOURCE_LABEL}={row.public_id}",
            },
        },
    )


def _last_billed_at(resource: str) -> datetime | None:
    billed = UsageInterval.objects.filter(resource=resource, cause=BILLED_CAUSE)
    end = Func(F("during"), function="upper", output_field=DateTimeField())
    found: datetime | None = billed.aggregate(end=Max(end))["end"]
    return found


def _totals(lines: Iterable[Any]) -> Iterable[dict[str, str]]:
    for total in totals(list(lines)):
        yield {
            "currency": total.currency,
            "amount": f"{total.amount:f}",
            "billed_seconds": f"{total.billed_seconds.normalize():f}",
        }
