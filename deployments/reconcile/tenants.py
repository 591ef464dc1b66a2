"""Keeps the namespaces of organizations as `tenancy` wants them: made ready before the first workload,
compared and mended by every sweep, removed when their organization is gone.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from deployments.clusters.errors import ClusterError
from deployments.clusters.port import Cluster, Manifest, ObjectRef, Observation, ObservedObject
from deployments.clusters.registry import site_of
from deployments.reconcile.names import namespace_name, organization_of
from deployments.reconcile.steps import Step, plan_steps
from deployments.reconcile.tenancy import namespace_of_volume, tenancy_manifests
from marketplace.accounts.models import Organization
from marketplace.billing.models import Quota
from marketplace.hardware import models as hardware
from marketplace.hardware.attachments import Attachment
from marketplace.hardware.models import Accelerator, AcceleratorFamily

log = logging.getLogger(__name__)

REMEMBERED_SECONDS = 60.0
"""For so long a namespace that was made ready is taken for ready, and a refused object is left alone."""
DEAD_PHASES = frozenset({"Released", "Failed", "Lost"})
"""Of a volume or claim whose other half was deleted: Kubernetes never binds it again, so it is made anew."""


@dataclass
class _Memory:
    """What one cluster was told lately, in seconds of this process' clock."""

    ready: dict[str, float] = field(default_factory=dict)
    """Namespace -> until when it is taken for ready."""
    refused: dict[ObjectRef, float] = field(default_factory=dict)
    """Object -> until when it is not tried again."""


_memories: WeakKeyDictionary[Cluster, _Memory] = WeakKeyDictionary()


def make_ready(
    namespaces: Collection[str], *, organization: Organization, row: hardware.Cluster, cluster: Cluster
) -> None:
    """Applies what the organization's namespaces share, unless this process has done it a moment ago. Raises
    ClusterError.

    What is created in a namespace that somebody has removed since is a conflict: `forget`, and make it ready
    again.
    """
    memory = _memories.setdefault(cluster, _Memory())
    now = time.monotonic()
    due = [name for name in sorted(namespaces) if memory.ready.get(name, 0.0) <= now]
    if due:
        wanted = _wanted([organization.public_id], row=row)
        for name in due:
            for manifest in wanted.get(name, ()):
                cluster.apply(manifest)
            memory.ready[name] = now + REMEMBERED_SECONDS


def forget(cluster: Cluster) -> None:
    """Takes no namespace of the cluster for ready any more."""
    _memories.pop(cluster, None)


def mend_tenants(seen: Observation, *, row: hardware.Cluster, cluster: Cluster) -> list[str]:
    """Compares all that is shared on a cluster with what is wanted of it. Returns what it changed.

    Never raises for one object: the others are mended all the same.
    """
    shared = [item for item in seen.objects if not item.resource]
    namespaces = {item.ref.name: item for item in shared if item.ref.kind == "Namespace"}
    wanted = _wanted(_organizations_of(namespaces), row=row)
    present: defaultdict[str, list[ObservedObject]] = defaultdict(list)
    for item in shared:
        present[_place_of(item.ref)].append(item)
    occupied = {pod.namespace for pod in seen.pods} | {
        item.ref.namespace for item in seen.objects if item.resource
    }
    changed: list[str] = []
    for name, items in present.items():
        if name in wanted and name in namespaces:
            changed += _mend(wanted[name], items, cluster=cluster)
        elif name in namespaces and organization_of(name) and name not in occupied:
            changed += _remove([namespaces[name]], cluster=cluster)
        elif name not in namespaces:
            # What belongs to no namespace outlives the one that it was for.
            changed += _remove([item for item in items if not item.ref.namespace], cluster=cluster)
    return changed


def _mend(wanted: Sequence[Manifest], items: Sequence[ObservedObject], *, cluster: Cluster) -> list[str]:
    if any(item.ref.kind == "Namespace" and item.deleting_since for item in items):
        return []  # somebody has deleted all of it: it comes back with the next workload
    dead = [item for item in items if item.status.get("phase") in DEAD_PHASES]
    steps = plan_steps(wanted, Observation(objects=tuple(items)), unwanted="nothing shares it any more")
    given_up = {item.ref for item in dead}
    return [
        *_remove(dead, cluster=cluster),
        *(change for step in steps if step.ref not in given_up for change in _take(step, cluster=cluster)),
    ]


def _remove(items: Iterable[ObservedObject], *, cluster: Cluster) -> list[str]:
    steps = plan_steps((), Observation(objects=tuple(items)), unwanted="what it was for is gone")
    return [change for step in steps for change in _take(step, cluster=cluster)]


def _take(step: Step, *, cluster: Cluster) -> list[str]:
    """Takes one step; what the cluster refuses is left alone for a while."""
    refused = _memories.setdefault(cluster, _Memory()).refused
    now = time.monotonic()
    if refused.get(step.ref, 0.0) > now:
        return []
    try:
        if step.manifest is not None:
            cluster.apply(step.manifest)
        else:
            cluster.delete(step.ref)
    except ClusterError as error:
        log.warning("cluster %s: %s fails: %s", cluster.name, step, error)
        refused[step.ref] = now + REMEMBERED_SECONDS
        return []
    refused.pop(step.ref, None)
    log.warning("cluster %s: %s", cluster.name, step)
    return [str(step)]


def _place_of(ref: ObjectRef) -> str:
    """The namespace that a shared object is, is in, or is for."""
    if ref.kind == "Namespace":
        return ref.name
    return ref.namespace or namespace_of_volume(ref.name)


def _organizations_of(namespaces: Iterable[str]) -> list[str]:
    """Public ids that the namespaces are named after, of organizations that exist."""
    ids = {public_id for name in namespaces if (public_id := organization_of(name))}
    if not ids:
        return []
    return list(Organization.objects.filter(public_id__in=ids).values_list("public_id", flat=True))


def _wanted(organizations: Sequence[str], *, row: hardware.Cluster) -> dict[str, tuple[Manifest, ...]]:
    """Namespace -> what it holds, in two queries."""
    if not organizations:
        return {}
    site = site_of(row)
    limits = _limits(organizations) if site.confines else {}
    return {
        namespace_name(organization, attachment=attachment): tenancy_manifests(
            organization, attachment=attachment, limits=limits.get(organization, {}), site=site
        )
        for organization in organizations
        for attachment in Attachment
    }


def _limits(organizations: Collection[str]) -> dict[str, dict[str, int]]:
    """Public id of an organization -> Kubernetes' resource name -> units that its quotas allow."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    for family, name in Accelerator.objects.values_list("family", "resource_name").distinct():
        names[family].add("cpu" if family == AcceleratorFamily.CPU else name)
    limits: defaultdict[str, dict[str, int]] = defaultdict(dict)
    quotas = Quota.objects.filter(organization__public_id__in=organizations)
    for organization, family, limit in quotas.values_list(
        "organization__public_id", "accelerator_family", "limit"
    ):
        # A family's chips may have several names: each may take all of it, the marketplace counts the sum.
        limits[organization].update(dict.fromkeys(names[family] - {""}, limit))
    return limits
