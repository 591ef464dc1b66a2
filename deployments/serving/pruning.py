"""Removes plans that nobody has accepted and nobody can accept any more.

Every question makes one, so they would be most of the database. Accepted ones are few and stay: deployments
and their revisions tell what they were made from.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef

from deployments.serving.models import Deployment, Plan, Revision

log = logging.getLogger(__name__)

KEPT_AFTER_EXPIRY = timedelta(days=1)
"""For as long, whoever accepts one is told that it has expired, and gets a new one."""
BATCH = 1000
"""Plans in one transaction, so that none is long."""


def prune_plans(*, now: datetime, batch: int = BATCH) -> int:
    """Removes the plans that expired more than a day before `now` and that nothing was made from; returns how
    many."""
    expired = Plan.objects.filter(
        ~Exists(Deployment.objects.filter(plan=OuterRef("pk"))),
        ~Exists(Revision.objects.filter(plan=OuterRef("pk"))),
        expires_at__lt=now - KEPT_AFTER_EXPIRY,
    )
    removed = 0
    while keys := list(expired.order_by("pk").values_list("pk", flat=True)[:batch]):
        Plan.objects.filter(pk__in=keys).delete()
        removed += len(keys)
    if removed:
        log.info("removed %d expired plans", removed)
    return removed
