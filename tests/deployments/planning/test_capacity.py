from typing import Any

from deployments.clusters.port import NodeCapacity
from deployments.planning.capacity import FreeCapacity, PodSize, count_free

GIB = 2**30


def node(name: str = "a", **changes: Any) -> NodeCapacity:
    values: dict[str, Any] = {
        "name": name,
        "labels": {"class": "virtual"},
        "allocatable": {"cpu": 8000, "memory": 32 * GIB, "nvidia.com/gpu": 2},
        "requested": {},
    }
    return NodeCapacity(**values | changes)


def size(**changes: Any) -> PodSize:
    values: dict[str, Any] = {
        "cpu_millicores": 2000,
        "memory_bytes": 4 * GIB,
        "devices": {"nvidia.com/gpu": 1},
        "node_selector": {"class": "virtual"},
    }
    return PodSize(**values | changes)


def test_the_scarcest_resource_of_each_node_counts() -> None:
    nodes = [node("a"), node("b", requested={"nvidia.com/gpu": 1})]
    assert count_free(nodes, size()) == FreeCapacity(pods=3, matching_nodes=2, reason="room for 3 more")


def test_nodes_of_another_kind_or_not_ready_do_not_count() -> None:
    nodes = [node("a", labels={"class": "metal"}), node("b", ready=False)]
    free = count_free(nodes, size())
    assert (free.pods, free.matching_nodes) == (0, 0)
    assert "no ready node of this kind" in free.reason


def test_a_shortage_is_told_in_numbers_of_the_emptiest_node() -> None:
    nodes = [
        node("a", requested={"nvidia.com/gpu": 2, "memory": 30 * GIB}),
        node("b", requested={"nvidia.com/gpu": 2}),
    ]
    free = count_free(nodes, size())
    assert free.pods == 0
    assert free.reason == "on the emptiest of 2 node(s): nvidia.com/gpu 1 needed, 0 free"


def test_cores_and_memory_are_told_in_words() -> None:
    free = count_free([node(requested={"cpu": 7500, "memory": 30 * GIB})], size(devices={}))
    assert free.reason == (
        "on the emptiest of 1 node(s): cpu 2 cores needed, 0.5 cores free; "
        "memory 4.0 GiB needed, 2.0 GiB free"
    )
