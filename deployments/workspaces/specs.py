"""Builds the self-contained specification that a workspace stores, from catalog and hardware rows."""

from __future__ import annotations

from deployments.serving.spec import WorkspaceSpec
from deployments.serving.specs import pod_resources
from deployments.workspaces.placing import WorkspaceAsk
from marketplace.hardware.models import NodePool


def workspace_spec(*, resource: str, organization: str, ask: WorkspaceAsk, pool: NodePool) -> WorkspaceSpec:
    """The specification of the workspace `resource`. Raises WishRefused for a flavor nobody can be given."""
    return WorkspaceSpec(
        resource=resource,
        organization=organization,
        image=ask.framework.workspace_image,
        resources=pod_resources(ask.flavor, pool),
        volume_gib=ask.volume_gib,
    )
