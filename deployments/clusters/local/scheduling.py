"""Decides which waiting pods fit the node, and says in numbers why the others do not. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.clusters.local.pods import Pod
from deployments.clusters.quantities import amount
from deployments.clusters.site import STORAGE_CLAIM

UNLIMITED = frozenset({"ephemeral-storage", "pods"})
"""Resources that this machine does not ration."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """What the machine offers."""

    name: str = "local"
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, int] = field(default_factory=dict)
    """cpu in millicores, memory in bytes, devices as counts."""


def requests(spec: Mapping[str, Any]) -> dict[str, int]:
    """What a pod claims: cpu in millicores, the rest in units. A limit without a request counts as one."""
    total: Counter[str] = Counter()
    for container in spec["containers"]:
        resources = container.get("resources") or {}
        claimed = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        for name, quantity in claimed.items():
            if name not in UNLIMITED:
                total[name] += amount(name, quantity)
    return dict(total)


def requested(pods: Sequence[Pod]) -> dict[str, int]:
    """What the pods on the node have claimed together."""
    total: Counter[str] = Counter()
    for pod in pods:
        if pod.scheduled_at and not pod.is_finished:
            total.update(requests(pod.spec))
    return dict(total)


def obstacle(
    pod: Pod, *, node: Node, claimed: Mapping[str, int], claims: Collection[str] = frozenset()
) -> str:
    """Why the pod cannot be bound now, in numbers; empty when it can.

    `claims`: names of the volume claims of its namespace, beside the storage that all share.
    """
    reasons = [
        f'persistentvolumeclaim "{claim}" not found (the local cluster has "{STORAGE_CLAIM}")'
        for claim in claims_of(pod.spec)
        if claim != STORAGE_CLAIM and claim not in claims
    ]
    selector = pod.spec.get("nodeSelector") or {}
    missing = {name: value for name, value in selector.items() if node.labels.get(name) != value}
    if missing:
        wanted = ", ".join(f"{name}={value}" for name, value in sorted(missing.items()))
        reasons.append(f"1 node(s) didn't match Pod's node affinity/selector ({wanted})")
    for name, need in sorted(requests(pod.spec).items()):
        has = node.allocatable.get(name, 0)
        free = has - claimed.get(name, 0)
        if need > free:
            figures = f"need {_amount(name, need)}, free {_amount(name, free)} of {_amount(name, has)}"
            reasons.append(f"1 Insufficient {name} ({figures})")
    return f"0/1 nodes are available: {'; '.join(reasons)}." if reasons else ""


def claims_of(spec: Mapping[str, Any]) -> list[str]:
    """Names of the volume claims that a pod uses."""
    volumes = spec.get("volumes") or ()
    return [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes
        if volume.get("persistentVolumeClaim")
    ]


def _amount(name: str, value: int) -> str:
    if name == "cpu":
        return f"{value / 1000:g} CPU"
    if name == "memory":
        return f"{value / 2**30:.2f} GiB"
    return str(value)
