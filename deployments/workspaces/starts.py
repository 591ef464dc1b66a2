"""Earlier starts like those of a workspace, which timelines learn from."""

from __future__ import annotations

from deployments.reconcile.kinds import facts_of
from deployments.reconcile.replicas import ReplicaFacts
from deployments.serving.models import Replica
from deployments.serving.timelines import STARTS_REMEMBERED
from deployments.workspaces.models import Workspace

WORKSPACES_REMEMBERED = 200


def earlier_starts(workspace: Workspace, revision: int | None) -> list[ReplicaFacts]:
    """The newest starts with the same framework on the same flavor, whoever's they were."""
    alike = Workspace.objects.filter(framework=workspace.framework_id, flavor=workspace.flavor_id)
    newest = alike.order_by("-pk").values_list("public_id", flat=True)[:WORKSPACES_REMEMBERED]
    started = Replica.objects.filter(resource__in=list(newest), ready_at__isnull=False, restarts=0)
    return [facts_of(replica) for replica in started.order_by("-created_at")[:STARTS_REMEMBERED]]
