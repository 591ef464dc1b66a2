"""What the namespace of an organization holds for all of its workloads: limits, closed doors and volumes.
Pure.

These objects belong to no row: they carry no resource label, so that no workload's deletion takes them along.
A namespace that a workload is about to be created in is made ready first; after that the sweep compares it
with what is wanted, and mends it. Where workloads need more privileges than others, they live in a namespace
of their own (`names.namespace_name`), so that the first one can stay closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.clusters.port import MANAGED_BY, MANAGED_BY_LABEL, RESOURCE_LABEL, Manifest
from deployments.clusters.site import CACHE_CLAIM, STORAGE_CLAIM, Site
from deployments.reconcile.manifests.objects import hashed
from deployments.reconcile.names import namespace_name
from marketplace.hardware.attachments import Attachment
from runtimes import contract

NAME = "marketplace"
"""Of the objects that a namespace has one of."""
POD_SECURITY_VERSION = "v1.30"
"""The oldest Kubernetes that we run on: an upgrade of the cluster must not change what is admitted."""
ROOM_FOR_UPDATES = 2
"""A revision is replaced while the old one serves on, so for a while an organization runs twice what its
quota says. The marketplace itself holds customers to the quota; the cluster's is for what gets past it."""
VOLUME_SIZE = "1Ti"
"""Kubernetes wants a size and binds by it; shared storage has the size that it has."""
SUFFIXES = {STORAGE_CLAIM: "storage", CACHE_CLAIM: "cache"}


def tenancy_manifests(
    organization: str, *, attachment: Attachment, limits: Mapping[str, int], site: Site
) -> tuple[Manifest, ...]:
    """The namespace and what is shared in it, in the order to apply it.

    `organization` is its public id; `limits` its quotas by Kubernetes' resource name, in units (vCPUs for
    cpu).
    """
    name = namespace_name(organization, attachment=attachment)
    level = site.pod_security if attachment is Attachment.DEVICE_PLUGIN else "privileged"
    if not site.confines:
        return (_namespace(name, labels={}),)
    confinement = {
        "pod-security.kubernetes.io/enforce": level,
        "pod-security.kubernetes.io/enforce-version": POD_SECURITY_VERSION,
    }
    volumes = [
        manifest
        for claim, source in ((STORAGE_CLAIM, site.storage), (CACHE_CLAIM, site.cache))
        if source is not None
        for manifest in _volume(name, claim=claim, source=source)
    ]
    return (
        _namespace(name, labels=confinement),
        # Doors are closed before anybody moves in.
        _closed_doors(name),
        _callers(name, site=site),
        _limit_range(name),
        _quota(name, limits=limits),
        *volumes,
    )


def volume_name(namespace: str, *, claim: str) -> str:
    """The PersistentVolume behind a claim of a namespace: volumes belong to none, so their name says
    whose."""
    return f"{namespace}-{SUFFIXES[claim]}"


def namespace_of_volume(name: str) -> str:
    """The namespace whose claim a PersistentVolume of this name is for."""
    return name.rpartition("-")[0]


def _shared(
    api_version: str,
    kind: str,
    name: str,
    *,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    **rest: Any,
) -> Manifest:
    metadata: dict[str, Any] = {"name": name, "labels": {MANAGED_BY_LABEL: MANAGED_BY, **(labels or {})}}
    if namespace:
        metadata["namespace"] = namespace
    return hashed({"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest})


def _namespace(name: str, *, labels: Mapping[str, str]) -> Manifest:
    return _shared("v1", "Namespace", name, labels=labels)


def _closed_doors(namespace: str) -> Manifest:
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return _shared("networking.k8s.io/v1", "NetworkPolicy", "closed", namespace=namespace, spec=spec)


def _callers(namespace: str, *, site: Site) -> Manifest:
    """Gateway and control plane may call the models' port. Weights come by volume: nothing goes out."""
    sources: list[dict[str, Any]] = []
    if site.caller_namespaces:
        sources.append({"namespaceSelector": {"matchLabels": dict(site.caller_namespaces)}})
    sources += [{"ipBlock": {"cidr": network}} for network in site.caller_cidrs]
    # A rule without sources would let everybody in.
    rules = [{"from": sources, "ports": [{"protocol": "TCP", "port": contract.PORT}]}] if sources else []
    spec = {
        "podSelector": {"matchExpressions": [{"key": RESOURCE_LABEL, "operator": "Exists"}]},
        "policyTypes": ["Ingress"],
        "ingress": rules,
    }
    return _shared("networking.k8s.io/v1", "NetworkPolicy", "callers", namespace=namespace, spec=spec)


def _limit_range(namespace: str) -> Manifest:
    """What a container gets that does not say: ours do, and a quota refuses pods that leave it open."""
    amounts = {"cpu": "1", "memory": "1Gi"}
    spec = {"limits": [{"type": "Container", "default": amounts, "defaultRequest": amounts}]}
    return _shared("v1", "LimitRange", NAME, namespace=namespace, spec=spec)


def _quota(namespace: str, *, limits: Mapping[str, int]) -> Manifest:
    # Addresses outside the cluster are the gateway's alone.
    hard = {"services.loadbalancers": "0", "services.nodeports": "0"}
    hard |= {f"requests.{name}": str(limit * ROOM_FOR_UPDATES) for name, limit in sorted(limits.items())}
    return _shared("v1", "ResourceQuota", NAME, namespace=namespace, spec={"hard": hard})


def _volume(namespace: str, *, claim: str, source: Mapping[str, Any]) -> tuple[Manifest, Manifest]:
    """A volume reserved for a claim, and the claim, which takes no other volume."""
    name = volume_name(namespace, claim=claim)
    both = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = _shared(
        "v1",
        "PersistentVolume",
        name,
        spec={
            **both,
            "capacity": {"storage": VOLUME_SIZE},
            # The data outlives the namespace: it is everybody's.
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": namespace,
                "name": claim,
            },
            **source,
        },
    )
    wish = _shared(
        "v1",
        "PersistentVolumeClaim",
        claim,
        namespace=namespace,
        spec={**both, "volumeName": name, "resources": {"requests": {"storage": VOLUME_SIZE}}},
    )
    return volume, wish
