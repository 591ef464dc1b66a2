"""Asks for a deletion: the row that the deletion is told by from then on. Call it with the wish to delete."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings

from deployments.serving.models import Deletion
from deployments.serving.workload import Workload


def request_deletion(workload: Workload, *, actor: str, at: datetime) -> Deletion:
    """Writes down who asked when, and until when it should be gone. The first request stays."""
    deletion, _ = Deletion.objects.get_or_create(
        resource=workload.public_id,
        defaults={
            "organization_id": workload.organization_id,
            "resource_name": workload.name,
            "cluster": workload.cluster.slug,
            "requested_at": at,
            "requested_by": actor,
            "deadline": at + timedelta(seconds=settings.DELETION_SECONDS),
        },
    )
    return deletion
