"""Nodes, events, logs and labels."""

from __future__ import annotations

from datetime import UTC, datetime

from deployments.clusters.kubernetes.events import observed_events
from deployments.clusters.kubernetes.loglines import LONGEST_LINE, numbered
from deployments.clusters.kubernetes.nodes import node_capacities, pod_requests
from deployments.clusters.kubernetes.objects import labeled
from deployments.clusters.port import LogLine, NodeCapacity, ObservedEvent

GPU = "nvidia.com/gpu"


def container(cpu: str = "0", **more: str):
    return {"resources": {"requests": {"cpu": cpu}, "limits": more}}


def node(name: str, *, ready: str = "True", **spec):
    return {
        "metadata": {"name": name, "labels": {"pool": "h100"}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "16", "memory": "64Gi", GPU: "4", "pods": "110", "ephemeral-storage": "1"},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def bound(to: str, phase: str = "Running", **resources: str):
    return {
        "spec": {"nodeName": to, "containers": [container("500m", **resources)]},
        "status": {"phase": phase},
    }


def test_a_node_has_what_is_allocatable_and_lacks_what_anybodys_pods_claim():
    taint = {"key": "gpu", "effect": "NoSchedule", "timeAdded": "2026-11-23T08:00:00Z"}
    found = node_capacities(
        [node("b", ready="Unknown"), node("a", unschedulable=True, taints=[taint])],
        [
            bound("a", **{GPU: "2"}),
            bound("a", **{GPU: "1", "memory": "1Gi"}),
            bound("a", "Succeeded", **{GPU: "1"}),
            bound("", **{GPU: "1"}),
            bound("gone", **{GPU: "1"}),
        ],
    )
    allocatable = {"cpu": 16000, "memory": 64 * 2**30, GPU: 4}
    assert found == [
        NodeCapacity(
            name="a",
            labels={"pool": "h100"},
            allocatable=allocatable,
            requested={"cpu": 1000, GPU: 3, "memory": 2**30},
            cordoned=True,
            taints=({"key": "gpu", "value": "", "effect": "NoSchedule"},),
        ),
        NodeCapacity(name="b", labels={"pool": "h100"}, allocatable=allocatable, requested={}, ready=False),
    ]


def test_of_init_containers_only_the_largest_counts_and_sidecars_stay():
    spec = {
        "initContainers": [
            {"restartPolicy": "Always", **container("100m")},
            container("2"),
            container("300m"),
        ],
        "containers": [container("500m"), container("250m")],
        "overhead": {"cpu": "10m"},
    }
    # The second init container runs beside the sidecar: 2,100m, more than the 850m that stay.
    assert pod_requests(spec) == {"cpu": 2110}


def event(name: str, *, uid: str = "", at: str = "2026-11-23T08:00:00Z", **more):
    return {
        "metadata": {"creationTimestamp": "2026-11-23T07:00:00Z"},
        "involvedObject": {"kind": "Pod", "name": name, "uid": uid},
        "reason": "FailedScheduling",
        "message": "no room",
        "type": "Warning",
        "lastTimestamp": at,
        **more,
    }


def test_events_are_those_of_the_objects_and_of_what_they_made_oldest_first():
    records = [
        event("dep-1-r1-abc", at="2026-11-23T08:02:00Z", count=3),
        event("dep-1", at=None, eventTime="2026-11-23T08:01:00.250000Z", type="Normal"),
        event("other", uid="u1", series={"lastObservedTime": "2026-11-23T08:03:00Z", "count": 9}),
        event("dep-10-r1-abc"),
        event("stranger"),
        {"metadata": {}},
    ]
    found = observed_events(records, uids=frozenset({"u1"}), names={"dep-1"})

    def expected(minute: int, name: str, *, warning: bool = True, count: int = 1, microsecond: int = 0):
        return ObservedEvent(
            at=datetime(2026, 11, 23, 8, minute, 0, microsecond, tzinfo=UTC),
            object=f"Pod {name}",
            reason="FailedScheduling",
            message="no room",
            warning=warning,
            count=count,
        )

    assert found == [
        expected(1, "dep-1", warning=False, microsecond=250000),
        expected(2, "dep-1-r1-abc", count=3),
        expected(3, "other", count=9),
    ]


def test_lines_are_numbered_wherever_the_answer_is_cut():
    for chunks in ([b"a\nb\r\nc"], [b"a", b"\nb\r", b"\n", b"c"], [b"a\nb\r\nc\n"]):
        found = numbered(chunks, after=1, limit=5, tail=False)
        assert found == [LogLine(number=2, text="b"), LogLine(number=3, text="c")]
    assert numbered([b"a\nb\nc\n"], after=0, limit=1, tail=True) == [LogLine(number=3, text="c")]
    assert numbered([b"a\n"], after=0, limit=0, tail=False) == []
    assert numbered([b"\xff\n"], after=0, limit=1, tail=False) == [LogLine(number=1, text="\ufffd")]


def test_a_line_without_end_is_cut_off():
    endless = [b"x" * 50_000 for _ in range(10)]
    [line] = numbered([*endless, b"\n"], after=0, limit=9, tail=False)
    assert len(line.text) <= LONGEST_LINE


def test_a_manifest_and_its_pods_carry_the_installation():
    manifest = {
        "kind": "Deployment",
        "metadata": {"name": "a", "labels": {"b": "c"}},
        "spec": {"replicas": 1, "template": {"metadata": {"labels": {"d": "e"}}, "spec": {}}},
    }
    assert labeled(manifest, installation="here") == {
        "kind": "Deployment",
        "metadata": {"name": "a", "labels": {"b": "c", "marketplace/installation": "here"}},
        "spec": {
            "replicas": 1,
            "template": {"metadata": {"labels": {"d": "e", "marketplace/installation": "here"}}, "spec": {}},
        },
    }
    assert manifest["metadata"]["labels"] == {"b": "c"}
