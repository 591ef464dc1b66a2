from typing import Any

import pytest

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
    assert count_free(nodes, size()) == FreeCapacity(
        pods=3, matching_nodes=2, reason="room for 3 more", nodes=("a", "b")
    )


def test_a_cluster_without_a_node_of_the_kind_says_so() -> None:
    assert count_free([node(labels={"class": "metal"})], size()) == FreeCapacity(
        pods=0, matching_nodes=0, reason="no node of this kind is in the cluster"
    )


def test_nodes_that_take_nothing_do_not_count_and_are_told_with_their_reason() -> None:
    nodes = [
        node("a", ready=False),
        node("b", cordoned=True),
        node("c", cordoned=True),
        node("d", taints=({"key": "spot", "value": "true", "effect": "NoSchedule"},)),
    ]
    assert count_free(nodes, size()) == FreeCapacity(
        pods=0,
        matching_nodes=0,
        reason="2 nodes are cordoned, 1 node is not ready, 1 node is tainted with spot",
        left_out={"cordoned": 2, "not ready": 1, "tainted with spot": 1},
    )


@pytest.mark.parametrize(
    ("case", "toleration", "taint", "room"),
    [
        ("the same key and value", {"key": "gpu", "value": "a"}, {"key": "gpu", "value": "a"}, 2),
        ("another value", {"key": "gpu", "value": "a"}, {"key": "gpu", "value": "b"}, 0),
        ("any value", {"key": "gpu", "operator": "Exists"}, {"key": "gpu", "value": "b"}, 2),
        ("any key", {"operator": "Exists"}, {"key": "gpu"}, 2),
        ("another effect", {"key": "gpu", "effect": "NoExecute"}, {"key": "gpu"}, 0),
        ("no toleration", {"key": "spot"}, {"key": "gpu"}, 0),
        ("a taint that only prefers", {}, {"key": "gpu", "effect": "PreferNoSchedule"}, 2),
    ],
)
def test_a_taint_keeps_pods_away_that_do_not_tolerate_it(
    case: str, toleration: dict[str, str], taint: dict[str, str], room: int
) -> None:
    tainted = node(taints=({"effect": "NoSchedule", **taint},))
    assert count_free([tainted], size(tolerations=(toleration,))).pods == room, case


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
