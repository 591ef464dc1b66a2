"""Keeps the namespaces of organizations as `tenancy` wants them: made ready before the first workload,
compared and mended by every sweep, removed when their organization is gone.
"""

from __future__ import annotations

import logging
import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from deployments.clusters.errors import ClusterError
from deployments.clusters.ownership import edited
from deployments.clusters.port import (
    SPEC_HASH_ANNOTATION,
    Cluster,
    Manifest,
    ObjectRef,
    Observation,
    ObservedObject,
)
from deployments.clusters.registry import site_of
from deployments.reconcile.names import namespace_name
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

_NAMESPACE = re.compile(rf"(?P<organization>[a-z]{{2,8}}-[0-9a-z]{{16,26}})(-({'|'.join(Attachment)}))?")


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
) -> bool:
    """Applies what the organization's namespaces share. Raises ClusterError.

    Returns whether any of it was left out, because this process has done it a moment ago. What is then
    created in the namespace fails if somebody has removed the namespace since: `forget`, and make it ready
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
    return len(due) < len(namespaces)


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
        elif name in namespaces and _NAMESPACE.fullmatch(name) and name not in occupied:
            changed += _remove([namespaces[name]], cluster=cluster)
        elif name not in namespaces:
            # What belongs to no namespace outlives the one that it was for.
            changed += _remove([item for item in items if not item.ref.namespace], cluster=cluster)
    return changed


def _mend(wanted: Iterable[Manifest], items: Iterable[ObservedObject], *, cluster: Cluster) -> list[str]:
    present = {item.ref: item for item in items}
    own = {ObjectRef.of(manifest): manifest for manifest in wanted}
    if any(item.ref.kind == "Namespace" and item.deleting_since for item in present.values()):
        return []  # somebody has deleted all of it: it comes back with the next workload
    changed = []
    for ref, manifest in own.items():
        found = present.get(ref)
        if found is not None and found.deleting_since is not None:
            continue
        if found is not None and found.status.get("phase") in DEAD_PHASES:
            changed += _remove([found], cluster=cluster)
        elif (
            found is None
            or found.spec_hash != manifest["metadata"]["annotations"][SPEC_HASH_ANNOTATION]
            or edited(manifest, found)
        ):
            changed += _try(ref, cluster=cluster, manifest=manifest)
    return changed + _remove([item for ref, item in present.items() if ref not in own], cluster=cluster)


def _remove(items: Sequence[ObservedObject], *, cluster: Cluster) -> list[str]:
    return [
        change for item in items if item.deleting_since is None for change in _try(item.ref, cluster=cluster)
    ]


def _try(ref: ObjectRef, *, cluster: Cluster, manifest: Manifest | None = None) -> list[str]:
    """Applies or deletes; what the cluster refuses is left alone for a while."""
    refused = _memories.setdefault(cluster, _Memory()).refused
    now = time.monotonic()
    if refused.get(ref, 0.0) > now:
        return []
    try:
        if manifest is None:
            cluster.delete(ref)
        else:
            cluster.apply(manifest)
    except ClusterError as error:
        log.warning("cluster %s: %s cannot be mended: %s", cluster.name, ref, error)
        refused[ref] = now + REMEMBERED_SECONDS
        return []
    refused.pop(ref, None)
    action = "deleted" if manifest is None else "applied"
    log.warning("cluster %s: %s was not as wanted: %s", cluster.name, ref, action)
    return [f"{action} {ref}"]


def _place_of(ref: ObjectRef) -> str:
    """The namespace that a shared object is, is in, or is for."""
    if ref.kind == "Namespace":
        return ref.name
    return ref.namespace or namespace_of_volume(ref.name)


def _organizations_of(namespaces: Iterable[str]) -> list[str]:
    """Public ids that the namespaces are named after, of organizations that exist."""
    names = (_NAMESPACE.fullmatch(name) for name in namespaces)
    ids = {match["organization"].replace("-", "_") for match in names if match}
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
