"""Which pods a Deployment adds and lets go, decided without a cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deployments.clusters.local.pods import TEMPLATE_HASH_LABEL, Phase, Pod
from deployments.clusters.local.rollout import FINISHED_KEPT, Changes, plan_rollout, template_hash
from tests.deployments.clusters import manifests

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def wanted(*, replicas=1, strategy=None, deleting=False):
    manifest = manifests.deployment(replicas=replicas)
    manifest["metadata"] |= {"uid": "owner", "generation": 1}
    if deleting:
        manifest["metadata"]["deletionTimestamp"] = NOW.isoformat()
    if strategy:
        manifest["spec"]["strategy"] = strategy
    return manifest


def pod(uid, *, version="current", ready=True, scheduled=True, age=0, **more):
    template = template_hash(wanted()) if version == "current" else version
    made = NOW - timedelta(seconds=age)
    values = {
        "uid": uid,
        "name": uid,
        "namespace": "n",
        "labels": {TEMPLATE_HASH_LABEL: template},
        "owner_kind": "Deployment",
        "owner_name": "d",
        "owner_uid": "owner",
        "spec": manifests.deployment()["spec"]["template"]["spec"],
        "created_at": made,
        "scheduled_at": made if scheduled else None,
        "ready": ready,
        "phase": Phase.RUNNING,
    }
    return Pod(**(values | more))


OLD = [pod("old-1", version="x"), pod("old-2", version="x")]
NEW = [pod("new-1"), pod("new-2")]
UNREADY = [replace(item, ready=False) for item in NEW]
RECREATE = {"type": "Recreate"}
NO_SURGE = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def gone(*uids, create=0):
    return Changes(create=create, delete=uids)


@pytest.mark.parametrize(
    ("case", "deployment", "pods", "expected"),
    [
        ("nothing there", wanted(replicas=2), [], Changes(create=2)),
        ("all there", wanted(replicas=2), NEW, Changes()),
        ("all there, not ready yet", wanted(replicas=2), UNREADY, Changes()),
        ("a new template: one more first", wanted(replicas=2), OLD, Changes(create=1)),
        ("the new one is not ready: wait", wanted(replicas=2), [*OLD, UNREADY[0]], Changes()),
        ("the new one is ready: one old goes", wanted(replicas=2), [*OLD, NEW[0]], gone("old-1")),
        ("then the next is added", wanted(replicas=2), [OLD[1], NEW[0]], Changes(create=1)),
        ("and the last old one goes", wanted(replicas=2), [OLD[1], *NEW], gone("old-2")),
        ("old ones that serve nobody go at once", wanted(), [pod("o", version="x", ready=False)],
         gone("o", create=1)),
        ("without surge: one less first", wanted(replicas=2, strategy=NO_SURGE), OLD, gone("old-1")),
        ("recreate: all old ones first", wanted(replicas=2, strategy=RECREATE), OLD,
         gone("old-1", "old-2")),
        ("recreate: then new ones", wanted(replicas=2, strategy=RECREATE), [], Changes(create=2)),
        ("one too many: the one not ready goes", wanted(), [NEW[0], UNREADY[1]], gone("new-2")),
        ("one too many: the youngest goes", wanted(), [pod("a", age=9), pod("b", age=1)], gone("b")),
        ("one too many: the one without a place goes", wanted(),
         [pod("a"), pod("b", ready=False), pod("c", ready=False, scheduled=False)], gone("c", "b")),
        ("none wanted", wanted(replicas=0), NEW, gone("new-1", "new-2")),
        ("being deleted", wanted(deleting=True), NEW, gone("new-1", "new-2")),
        ("a leaving pod is replaced and not let go twice", wanted(),
         [replace(NEW[0], deleting_since=NOW)], Changes(create=1)),
    ],
)  # fmt: skip
def test_it_decides(case, deployment, pods, expected):
    assert plan_rollout(deployment, pods, now=NOW) == expected


def test_it_keeps_the_newest_pods_that_ended_with_the_node_however_long_ago():
    ended = [
        replace(pod(f"ended-{age}"), phase=Phase.FAILED, ready=False, finished_at=NOW - timedelta(days=age))
        for age in range(FINISHED_KEPT + 1)
    ]
    assert plan_rollout(wanted(), [*ended[:-1], NEW[0]], now=NOW) == Changes()
    assert plan_rollout(wanted(), [*ended, NEW[0]], now=NOW) == gone(f"ended-{FINISHED_KEPT}")
    assert plan_rollout(wanted(replicas=0, deleting=True), ended[:1], now=NOW) == gone("ended-0")


@pytest.mark.parametrize("replicas", [1, 2, 3, 7])
def test_it_gets_from_any_version_to_another_without_serving_less(replicas):
    deployment = wanted(replicas=replicas, strategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    pods = {f"old-{number}": pod(f"old-{number}", version="x") for number in range(replicas)}
    for step in range(10 * replicas):
        changes = plan_rollout(deployment, list(pods.values()), now=NOW)
        if changes == Changes():
            break
        for uid in changes.delete:
            del pods[uid]
        for number in range(changes.create):
            pods[f"new-{step}-{number}"] = pod(f"new-{step}-{number}", ready=False)
        assert sum(item.ready for item in pods.values()) >= replicas
        assert len(pods) <= replicas + 1
        pods = {uid: replace(item, ready=True) for uid, item in pods.items()}
    assert len(pods) == replicas
    assert {item.labels[TEMPLATE_HASH_LABEL] for item in pods.values()} == {template_hash(wanted())}
