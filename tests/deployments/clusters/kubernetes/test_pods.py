from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from deployments.clusters.kubernetes.pods import observed_pod
from deployments.clusters.port import ObjectRef, ObservedPod
from tests.deployments.clusters.kubernetes.records import (
    condition,
    ended,
    pod,
    ready_conditions,
    running,
    unready_conditions,
    waiting,
)


def at(minute: int, second: int) -> datetime:
    return datetime(2026, 11, 23, 8, minute, second, tzinfo=UTC)


SERVING = ObservedPod(
    uid="pod-uid",
    name="dep-1-r2-7d9f8-x2k4p",
    namespace="org-1",
    resource="dep_1",
    revision=2,
    phase="Running",
    created_at=at(0, 0),
    scheduled_at=at(0, 1),
    image_pulled_at=at(0, 5),
    started_at=at(0, 5),
    ready_at=at(0, 30),
    ready=True,
    ready_changed_at=at(0, 30),
    node="gpu-1",
    address="10.244.0.7:8000",
    ends_with=(ObjectRef("v1", "Pod", "org-1", "dep-1-r2-7d9f8-x2k4p"),),
)
UNREADY = replace(SERVING, ready=False, ready_at=None, ready_changed_at=None)


def test_a_pod_that_serves():
    assert observed_pod(pod()) == SERVING


def test_a_pod_that_nobody_has_looked_at_yet():
    bare = {
        "metadata": {
            "name": "a",
            "namespace": "org-1",
            "uid": "u",
            "creationTimestamp": "2026-11-23T08:00:00Z",
        }
    }
    assert observed_pod(bare) == ObservedPod(
        uid="u",
        name="a",
        namespace="org-1",
        resource="",
        revision=None,
        phase="Pending",
        created_at=at(0, 0),
        ends_with=(ObjectRef("v1", "Pod", "org-1", "a"),),
    )


@pytest.mark.parametrize(
    ("owner", "ends_with"),
    [
        (
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "dep-1-r2-7d9f8"},
            (ObjectRef("apps/v1", "ReplicaSet", "org-1", "dep-1-r2-7d9f8"), *SERVING.ends_with),
        ),
        ({"apiVersion": "batch/v1", "kind": "Job", "name": "ftj-1"}, SERVING.ends_with),
    ],
    ids=["of a Deployment", "of a Job"],
)
def test_a_pod_goes_after_what_would_make_it_anew(owner, ends_with):
    record = pod()
    record["metadata"]["ownerReferences"] = [{**owner, "uid": "owner-uid", "controller": True}]
    assert observed_pod(record) == replace(SERVING, owner="owner-uid", ends_with=ends_with)


def test_a_pod_without_room_says_what_the_scheduler_says():
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    record = pod(
        spec={"nodeName": ""},
        status={
            "phase": "Pending",
            "podIP": "",
            "startTime": None,
            "containerStatuses": None,
            "conditions": [condition("PodScheduled", "False", reason="Unschedulable", message=message)],
        },
    )
    assert observed_pod(record) == ObservedPod(
        uid=SERVING.uid,
        name=SERVING.name,
        namespace="org-1",
        resource="dep_1",
        revision=2,
        phase="Pending",
        created_at=at(0, 0),
        reason="Unschedulable",
        message=message,
        ends_with=SERVING.ends_with,
    )


@pytest.mark.parametrize(
    ("state", "reason", "message"),
    [
        (waiting("ContainerCreating"), "ContainerCreating", ""),
        (waiting("ErrImagePull", 'image "x:1" not found'), "ErrImagePull", 'image "x:1" not found'),
        (waiting("CreateContainerConfigError", "no secret"), "CreateContainerConfigError", "no secret"),
    ],
)
def test_a_container_that_cannot_start_says_why(state, reason, message):
    record = pod(state=state, status={"phase": "Pending", "podIP": "", "conditions": unready_conditions()})
    record["status"]["containerStatuses"] = [running(state=state, ready=False, started=False)]
    expected = replace(
        UNREADY,
        phase="Pending",
        started_at=None,
        image_pulled_at=None,
        address="",
        reason=reason,
        message=message,
    )
    assert observed_pod(record) == expected


def test_a_container_that_keeps_crashing_says_how_it_ended():
    record = pod(
        status={"conditions": unready_conditions()},
    )
    record["status"]["containerStatuses"] = [
        running(
            ready=False,
            restartCount=3,
            state=waiting("CrashLoopBackOff", "back-off 40s restarting failed container"),
            lastState=ended(3, "Error", message="no weights"),
        )
    ]
    assert observed_pod(record) == replace(
        UNREADY,
        restarts=3,
        exit_code=3,
        last_end_at=at(5, 0),
        last_run_at=at(0, 5),
        last_end_reason="Error",
        reason="CrashLoopBackOff",
        message="the last run ended with exit code 3; no weights; back-off 40s restarting failed container",
    )


def test_running_out_of_memory_is_told_while_it_waits_and_while_it_loads_again():
    for state in (waiting("CrashLoopBackOff"), {"running": {"startedAt": "2026-11-23T08:06:00Z"}}):
        record = pod(status={"conditions": unready_conditions()})
        killed = ended(137, "OOMKilled")
        record["status"]["containerStatuses"] = [
            running(ready=False, restartCount=1, state=state, lastState=killed)
        ]
        found = observed_pod(record)
        assert (found.reason, found.exit_code, found.started_at) == ("OOMKilled", 137, at(0, 5))


def test_what_a_container_has_recovered_from_is_not_its_reason():
    found = observed_pod(pod(restartCount=1, lastState=ended(137, "OOMKilled")))
    last = {"last_end_at": at(5, 0), "last_run_at": at(0, 5), "last_end_reason": "OOMKilled"}
    assert found == replace(SERVING, restarts=1, exit_code=137, **last)


def test_a_pod_that_stopped_being_ready_says_since_when():
    record = pod(status={"conditions": unready_conditions("2026-11-23T08:03:00Z")}, ready=False)
    assert observed_pod(record) == replace(UNREADY, ready_changed_at=at(3, 0))


def test_an_init_container_that_works_is_named():
    init = {"name": "weights", "state": {"running": {"startedAt": "2026-11-23T08:00:02Z"}}, "lastState": {}}
    record = pod(
        spec={"initContainers": [{"name": "weights"}]},
        status={
            "phase": "Pending",
            "conditions": unready_conditions(),
            "initContainerStatuses": [init],
            "containerStatuses": [running(state=waiting("PodInitializing"), ready=False)],
        },
    )
    assert observed_pod(record) == replace(
        UNREADY,
        phase="Pending",
        started_at=None,
        image_pulled_at=at(0, 2),
        reason="PodInitializing",
        init_container="weights",
    )


def test_an_init_container_that_failed_gives_the_reason():
    init = {"name": "weights", "state": waiting("CrashLoopBackOff"), "lastState": ended(65, "Error")}
    record = pod(
        spec={"initContainers": [{"name": "weights"}]},
        status={
            "phase": "Pending",
            "conditions": unready_conditions(),
            "initContainerStatuses": [init],
            "containerStatuses": [running(state=waiting("PodInitializing"), ready=False)],
        },
    )
    found = observed_pod(record)
    assert (found.init_container, found.reason, found.message) == (
        "weights",
        "CrashLoopBackOff",
        "the last run ended with exit code 65",
    )


def test_init_containers_that_are_done_or_stay_beside_are_not_named():
    record = pod(
        spec={"initContainers": [{"name": "weights"}, {"name": "proxy", "restartPolicy": "Always"}]},
        status={
            "phase": "Pending",
            "initContainerStatuses": [
                {"name": "weights", "state": ended(0, "Completed")},
                {"name": "proxy", "started": True, "state": {"running": {}}},
            ],
        },
    )
    assert observed_pod(record).init_container == ""


def test_a_pod_that_did_its_work():
    record = pod(
        status={
            "phase": "Succeeded",
            "conditions": [
                *unready_conditions("2026-11-23T08:05:01Z")[:1],
                condition("Ready", "False", "2026-11-23T08:05:01Z", reason="PodCompleted"),
                condition("PodScheduled", "True"),
            ],
        },
        state=ended(0, "Completed"),
        ready=False,
    )
    assert observed_pod(record) == replace(
        UNREADY,
        phase="Succeeded",
        ready_changed_at=at(5, 1),
        finished_at=at(5, 0),
        exit_code=0,
        last_end_at=at(5, 0),
        last_run_at=at(0, 5),
        last_end_reason="Completed",
        reason="Completed",
    )


def test_a_pod_that_was_evicted_before_it_ran():
    record = pod(
        status={
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
            "podIP": "",
            "conditions": [condition("DisruptionTarget", "True", "2026-11-23T08:02:00Z")],
            "containerStatuses": None,
        }
    )
    found = observed_pod(record)
    assert (found.reason, found.message) == ("Evicted", "The node was low on resource: memory.")
    assert (found.finished_at, found.started_at, found.exit_code) == (at(2, 0), None, None)


@pytest.mark.parametrize(
    "word", ["PreemptionByScheduler", "DeletionByTaintManager", "EvictionByEvictionAPI", "DeletionByPodGC"]
)
def test_who_ended_a_pod_counts_more_than_how_its_container_ended(word):
    disrupted = condition("DisruptionTarget", "True", "2026-11-23T08:04:00Z", reason=word, message="told")
    record = pod(
        status={"phase": "Failed", "conditions": [*unready_conditions(), disrupted]},
        state=ended(143, "Error"),
    )
    found = observed_pod(record)
    assert (found.reason, found.message, found.exit_code) == (word, "told", 143)


def test_a_pod_whose_node_vanished_ended_when_the_cluster_gave_it_up():
    disrupted = condition("DisruptionTarget", "True", "2026-11-23T08:04:00Z", reason="DeletionByPodGC")
    record = pod(status={"phase": "Failed", "conditions": [*ready_conditions(), disrupted]})
    found = observed_pod(record)
    assert (found.finished_at, found.ready, found.reason) == (at(4, 0), False, "DeletionByPodGC")


def test_a_pod_on_a_node_that_does_not_report_is_lost():
    conditions = [condition("Ready", "Unknown", "2026-11-23T08:10:00Z"), condition("PodScheduled", "True")]
    found = observed_pod(pod(status={"conditions": conditions}))
    assert (found.ready, found.reason, found.finished_at) == (False, "NodeLost", None)


def test_a_pod_that_somebody_else_than_its_kubelet_calls_unready_is_on_a_lost_node():
    """The node life-cycle controller changes the condition Ready and nothing else."""
    conditions = [
        condition("Ready", "False", "2026-11-23T08:10:00Z"),
        condition("ContainersReady", "True"),
        condition("PodScheduled", "True"),
    ]
    found = observed_pod(pod(status={"conditions": conditions}))
    assert (found.ready, found.reason, found.ready_changed_at) == (False, "NodeLost", at(10, 0))


def test_a_pod_that_was_asked_to_go_says_when_and_takes_no_requests():
    metadata = {"deletionTimestamp": "2026-11-23T08:10:30Z", "deletionGracePeriodSeconds": 30}
    assert observed_pod(pod(metadata=metadata)) == replace(SERVING, ready=False, deleting_since=at(10, 0))


def test_an_address_of_version_6_is_written_for_a_url():
    assert observed_pod(pod(status={"podIP": "fd00::7"})).address == "[fd00::7]:8000"


@pytest.mark.parametrize(
    "record",
    [
        pod(status={"conditions": None, "containerStatuses": None, "phase": None}),
        pod(spec={"containers": []}),
        pod(state=None, lastState=None),
        pod(state={}, lastState={"terminated": None}),
        pod(status={"phase": "Failed", "startTime": None, "conditions": [], "containerStatuses": []}),
        pod(metadata={"labels": None}),
        pod(metadata={"labels": {"marketplace/revision": "two"}}),
        {**pod(), "status": None, "spec": None},
    ],
)
def test_there_is_an_answer_for_every_pod(record):
    assert observed_pod(record).uid == "pod-uid"
