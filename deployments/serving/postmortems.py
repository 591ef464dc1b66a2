"""Keeps what is known of replicas that died, for as long as it may be asked for: also after the deletion of
what they belonged to. A bounded number per resource.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import QuerySet

from deployments.reconcile.deaths import Autopsy
from deployments.reconcile.termination import customer_text
from deployments.serving.models import PostMortem
from deployments.serving.workload import Workload

KEPT_PER_RESOURCE = 20
SHOWN = 5


def keep_post_mortems(
    workload: Workload, autopsies: Sequence[Autopsy], *, specs: Mapping[int | None, Mapping[str, Any]]
) -> None:
    """Writes them, each once, and forgets the oldest beyond what is kept. Call it in a transaction.

    `specs`: number of the revision (None: of a job) -> its stored specification.
    """
    if not autopsies:
        return
    PostMortem.objects.bulk_create(
        (_row(workload, autopsy, specs) for autopsy in autopsies), ignore_conflicts=True
    )
    mine = PostMortem.objects.filter(resource=workload.public_id)
    kept = mine.order_by("-id").values_list("id", flat=True)[:KEPT_PER_RESOURCE]
    mine.exclude(id__in=list(kept)).delete()


def newest_post_mortems(workload: Workload) -> QuerySet[PostMortem]:
    """The newest few, for a page."""
    return PostMortem.objects.filter(resource=workload.public_id).order_by("-id")[:SHOWN]


def _row(workload: Workload, autopsy: Autopsy, specs: Mapping[int | None, Mapping[str, Any]]) -> PostMortem:
    death, signature = autopsy.death, autopsy.signature
    replica = death.replica
    resources = specs.get(replica.revision, {}).get("resources") or {}
    return PostMortem(
        organization=workload.organization,
        resource=workload.public_id,
        resource_name=workload.name,
        replica_uid=replica.uid,
        replica=replica.name,
        revision=replica.revision,
        attempt=death.attempt,
        node=replica.node,
        created_at=replica.created_at,
        started_at=replica.started_at,
        ready_at=replica.ready_at,
        ended_at=death.at,
        exit_code=replica.exit_code,
        reason=death.reason.value,
        message=f"{customer_text(death.reason)} {replica.message}".strip(),
        cause=signature.id if signature else "",
        fix={
            "title": signature.title,
            "message": signature.fix,
            "who": signature.who,
            "change": dict(signature.change),
        }
        if signature
        else None,
        memory_limit_bytes=resources.get("memory_bytes"),
        lines=list(autopsy.lines),
        events=[
            {
                "at": event.at.isoformat(),
                "reason": event.reason,
                "message": event.message.replace("\x00", "")[:1000],
                "count": event.count,
            }
            for event in autopsy.events
        ],
        missing=list(autopsy.missing),
    )
