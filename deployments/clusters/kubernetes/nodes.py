"""Nodes as the port shows them: what each has, and what the pods on it have claimed. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from deployments.clusters.port import NodeCapacity
from deployments.clusters.quantities import amount

UNCOUNTED = frozenset({"ephemeral-storage", "pods"})
"""Resources that no plan asks for."""

Json = Mapping[str, Any]


def node_capacities(nodes: Iterable[Json], pods: Iterable[Json]) -> list[NodeCapacity]:
    """The nodes by name. `pods` are those of everybody on the cluster, as JSON.

    Pods that are finished or not bound claim nothing.
    """
    claimed: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for pod in pods:
        node = (pod.get("spec") or {}).get("nodeName")
        if node and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            claimed[node].update(pod_requests(pod["spec"]))
    return sorted(
        (_node_capacity(node, claimed=claimed[node["metadata"]["name"]]) for node in nodes),
        key=lambda node: node.name,
    )


def pod_requests(spec: Json) -> dict[str, int]:
    """What a pod claims, as the scheduler counts it: cpu in millicores, the rest in units.

    Init containers run one after another, so of them only the largest counts, and those that stay (sidecars)
    count like the others. https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing
    """
    total: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        total.update(_requests(container))
    staying: Counter[str] = Counter()
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        own = _requests(container)
        if container.get("restartPolicy") == "Always":
            staying.update(own)
            own = Counter()
        for name, value in (staying + own).items():
            peak[name] = max(peak.get(name, 0), value)
    total.update(staying)
    for name, value in peak.items():
        total[name] = max(total[name], value)
    for name, value in _amounts((spec.get("resources") or {}).get("requests")).items():
        total[name] = value  # said for the pod as a whole
    total.update(_amounts(spec.get("overhead")))
    return dict(total)


def _node_capacity(node: Json, *, claimed: Mapping[str, int]) -> NodeCapacity:
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    conditions = {item.get("type"): item.get("status") for item in status.get("conditions") or ()}
    return NodeCapacity(
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        allocatable=_amounts(status.get("allocatable")),
        requested=dict(claimed),
        ready=conditions.get("Ready") == "True",
        cordoned=bool(spec.get("unschedulable")),
        taints=tuple(
            {"key": taint["key"], "value": taint.get("value") or "", "effect": taint["effect"]}
            for taint in spec.get("taints") or ()
        ),
    )


def _requests(container: Json) -> Counter[str]:
    resources = container.get("resources") or {}
    return Counter(_amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})}))


def _amounts(quantities: Mapping[str, Any] | None) -> dict[str, int]:
    return {
        name: amount(name, quantity) for name, quantity in (quantities or {}).items() if name not in UNCOUNTED
    }
