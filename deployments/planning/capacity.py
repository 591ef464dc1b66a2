"""How many more pods of a size a cluster's nodes can take right now.

A node counts when the scheduler would consider it: it has the labels asked for, is ready, is not cordoned,
and has no taint that the pod does not tolerate. What is left out is told with its number and reason, since
"no room" means something else when nine of ten nodes are cordoned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.clusters.port import NodeCapacity

REPELLING = ("NoSchedule", "NoExecute")
"""Effects of taints that keep a pod away; PreferNoSchedule only makes a node less liked."""


@dataclass(frozen=True, kw_only=True)
class PodSize:
    """What one pod asks for, in the units of NodeCapacity: millicores, bytes and device counts."""

    cpu_millicores: int
    memory_bytes: int
    devices: Mapping[str, int]
    node_selector: Mapping[str, str]
    tolerations: Sequence[Mapping[str, Any]] = ()

    @property
    def requests(self) -> dict[str, int]:
        return {"cpu": self.cpu_millicores, "memory": self.memory_bytes, **self.devices}

    @property
    def key(self) -> Hashable:
        """Equal for equal sizes."""
        wanted = (*sorted(self.devices.items()), *sorted(self.node_selector.items()))
        tolerated = tuple(tuple(sorted(toleration.items())) for toleration in self.tolerations)
        return self.cpu_millicores, self.memory_bytes, wanted, tolerated


@dataclass(frozen=True, kw_only=True)
class FreeCapacity:
    """How many pods fit, and why no more."""

    pods: int
    matching_nodes: int
    """Nodes that the scheduler would consider."""
    reason: str
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why nodes with the right labels take nothing -> how many of them."""
    nodes: tuple[str, ...] = ()
    """Names of the nodes with room."""


class NodeIndex:
    """The nodes of a cluster, found by their labels without a look at each of them for every flavor."""

    def __init__(self, nodes: Iterable[NodeCapacity]) -> None:
        self.nodes = tuple(nodes)
        # Pools tell their nodes by the same few label keys: one pass over the nodes for each set of keys.
        self._groups: dict[tuple[str, ...], dict[tuple[str | None, ...], list[NodeCapacity]]] = {}
        self._counted: dict[Hashable, FreeCapacity] = {}

    def matching(self, selector: Mapping[str, str]) -> Sequence[NodeCapacity]:
        """The nodes that have all labels of a selector."""
        if not selector:
            return self.nodes
        keys = tuple(sorted(selector))
        if keys not in self._groups:
            groups: dict[tuple[str | None, ...], list[NodeCapacity]] = {}
            for node in self.nodes:
                groups.setdefault(tuple(node.labels.get(key) for key in keys), []).append(node)
            self._groups[keys] = groups
        return self._groups[keys].get(tuple(selector[key] for key in keys), [])

    def count(self, size: PodSize) -> FreeCapacity:
        """How many pods of `size` fit on what is free; nodes never change, so it is counted once."""
        key = size.key
        if key not in self._counted:
            self._counted[key] = _count(self.matching(size.node_selector), size)
        return self._counted[key]


def count_free(nodes: Iterable[NodeCapacity], size: PodSize) -> FreeCapacity:
    """Counts how many pods of `size` fit on what is free, node by node."""
    return NodeIndex(nodes).count(size)


def _count(labelled: Sequence[NodeCapacity], size: PodSize) -> FreeCapacity:
    refusals = {node.name: refusal for node in labelled if (refusal := _refusal(node, size))}
    left_out = dict(Counter(refusals.values()))
    usable = [node for node in labelled if node.name not in refusals]
    if not usable:
        reason = _left_out_text(left_out) if left_out else "no node of this kind is in the cluster"
        return FreeCapacity(pods=0, matching_nodes=0, reason=reason, left_out=left_out)
    room = {node.name: fitting for node in usable if (fitting := _fitting(node, size))}
    pods = sum(room.values())
    reason = f"room for {pods} more" if pods else _shortage(usable, size)
    if left_out and not pods:
        reason += f"; {_left_out_text(left_out)}"
    return FreeCapacity(
        pods=pods, matching_nodes=len(usable), reason=reason, left_out=left_out, nodes=tuple(room)
    )


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    """Whether a toleration lets a pod onto a node with the taint.

    https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/: an empty effect matches all
    effects, and `Exists` without a key every taint.
    """
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("operator") == "Exists":
        return not toleration.get("key") or toleration["key"] == taint.get("key")
    same_key = toleration.get("key") == taint.get("key")
    return same_key and (toleration.get("value") or "") == (taint.get("value") or "")


def _refusal(node: NodeCapacity, size: PodSize) -> str:
    """Why the scheduler would pass over a node; empty when it would not."""
    if not node.ready:
        return "not ready"
    if node.cordoned:
        return "cordoned"
    for taint in node.taints:
        if taint.get("effect") in REPELLING and not any(
            tolerates(toleration, taint) for toleration in size.tolerations
        ):
            return f"tainted with {taint['key']}"
    return ""


def _left_out_text(left_out: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count} node{'s are' if count > 1 else ' is'} {reason}"
        for reason, count in sorted(left_out.items())
    )


def _free(node: NodeCapacity, resource: str) -> int:
    return max(0, node.allocatable.get(resource, 0) - node.requested.get(resource, 0))


def _fitting(node: NodeCapacity, size: PodSize) -> int:
    return min(_free(node, resource) // need for resource, need in size.requests.items() if need)


def _shortage(nodes: Sequence[NodeCapacity], size: PodSize) -> str:
    """Names what is short on the node that comes closest."""
    best = max(
        nodes,
        key=lambda node: sum(_free(node, resource) >= need for resource, need in size.requests.items()),
    )
    short = [
        f"{resource} {_amount(resource, need)} needed, {_amount(resource, _free(best, resource))} free"
        for resource, need in size.requests.items()
        if _free(best, resource) < need
    ]
    return f"on the emptiest of {len(nodes)} node(s): " + "; ".join(short)


def _amount(resource: str, value: int) -> str:
    if resource == "cpu":
        return f"{value / 1000:g} cores"
    if resource == "memory":
        return f"{value / 2**30:.1f} GiB"
    return str(value)
