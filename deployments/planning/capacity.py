"""How many more pods of a size a cluster's nodes can take right now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deployments.clusters.port import NodeCapacity


@dataclass(frozen=True, kw_only=True)
class PodSize:
    """What one pod asks for, in the units of NodeCapacity: millicores, bytes and device counts."""

    cpu_millicores: int
    memory_bytes: int
    devices: Mapping[str, int]
    node_selector: Mapping[str, str]

    @property
    def requests(self) -> dict[str, int]:
        return {"cpu": self.cpu_millicores, "memory": self.memory_bytes, **self.devices}


@dataclass(frozen=True, kw_only=True)
class FreeCapacity:
    """How many pods fit, and why no more."""

    pods: int
    matching_nodes: int
    """Ready nodes whose labels match."""
    reason: str


def count_free(nodes: Iterable[NodeCapacity], size: PodSize) -> FreeCapacity:
    """Counts how many pods of `size` fit on what is free, node by node."""
    matching = [node for node in nodes if node.ready and _matches(node, size)]
    if not matching:
        return FreeCapacity(pods=0, matching_nodes=0, reason="no ready node of this kind is in the cluster")
    pods = sum(_fitting(node, size) for node in matching)
    if pods:
        return FreeCapacity(pods=pods, matching_nodes=len(matching), reason=f"room for {pods} more")
    return FreeCapacity(pods=0, matching_nodes=len(matching), reason=_shortage(matching, size))


def _matches(node: NodeCapacity, size: PodSize) -> bool:
    return all(node.labels.get(key) == value for key, value in size.node_selector.items())


def _free(node: NodeCapacity, resource: str) -> int:
    return max(0, node.allocatable.get(resource, 0) - node.requested.get(resource, 0))


def _fitting(node: NodeCapacity, size: PodSize) -> int:
    return min(_free(node, resource) // need for resource, need in size.requests.items() if need)


def _shortage(nodes: list[NodeCapacity], size: PodSize) -> str:
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
