"""When a Job makes another pod and how it ends, decided without a cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deployments.clusters.local.jobs import job_status, plan_job
from deployments.clusters.local.pods import Phase, Pod
from deployments.clusters.local.rollout import Changes
from tests.deployments.clusters import manifests

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def wanted(*, retries=3, deleting=False, **spec):
    manifest = manifests.job(retries=retries)
    manifest["metadata"] |= {"uid": "owner", "generation": 1, "creationTimestamp": NOW.isoformat()}
    if deleting:
        manifest["metadata"]["deletionTimestamp"] = NOW.isoformat()
    manifest["spec"] |= spec
    return manifest


def pod(uid="p", *, code=None, at=NOW, **more):
    """A running pod, or one that ended with `code`."""
    phase = Phase.RUNNING if code is None else Phase.SUCCEEDED if code == 0 else Phase.FAILED
    values = {
        "uid": uid,
        "name": uid,
        "namespace": "n",
        "labels": {},
        "owner_kind": "Job",
        "owner_name": "j",
        "owner_uid": "owner",
        "spec": manifests.job()["spec"]["template"]["spec"],
        "created_at": NOW,
        "phase": phase,
        "exit_code": code,
        "finished_at": None if code is None else at,
    }
    return Pod(**(values | more))


GONE = Changes(delete=("a", "b"))


def after(seconds):
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("case", "job", "pods", "now", "expected"),
    [
        ("nothing there", wanted(), [], NOW, Changes(create=1)),
        ("it runs", wanted(), [pod()], NOW, Changes()),
        ("it is done", wanted(), [pod(code=0)], NOW, Changes()),
        ("it failed: wait a second", wanted(), [pod(code=70)], NOW, Changes(look_again_at=after(1))),
        ("then again", wanted(), [pod(code=70)], after(1), Changes(create=1)),
        ("twice: wait two", wanted(), [pod("a", code=70), pod("b", code=70)], after(1),
         Changes(look_again_at=after(2))),
        ("it was stopped: wait as well", wanted(), [pod(code=75)], NOW, Changes(look_again_at=after(1))),
        ("the node went down: at once", wanted(), [pod(code=1, disrupted=True)], NOW, Changes(create=1)),
        ("bad input: never", wanted(), [pod(code=65)], after(99), Changes()),
        ("enough failures", wanted(retries=1), [pod("a", code=70), pod("b", code=70)], after(99), Changes()),
        ("being deleted", wanted(deleting=True), [pod("a", code=70), pod("b")], NOW, GONE),
        ("suspended", wanted(suspend=True), [pod()], NOW, Changes(delete=("p",))),
        ("it has a deadline", wanted(activeDeadlineSeconds=9), [pod()], NOW, Changes(look_again_at=after(9))),
        ("it took too long", wanted(activeDeadlineSeconds=9), [pod()], after(9), Changes(delete=("p",))),
    ],
)  # fmt: skip
def test_it_decides(case, job, pods, now, expected):
    assert plan_job(job, pods, now=now) == expected


REACHED = "Reached expected number of succeeded pods"
BAD_INPUT = "Container main for pod n/p failed with exit code 65 matching FailJob rule at index 0"
TOO_OFTEN = "Job has reached the specified backoff limit"
TOO_LONG = "Job was active longer than specified deadline"


def ended(kind, reason, message, *, seconds=0):
    since = after(seconds).isoformat()
    return [
        {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since}
    ]


@pytest.mark.parametrize(
    ("case", "job", "pods", "expected"),
    [
        ("running", wanted(), [pod(ready=True)],
         {"active": 1, "ready": 1, "succeeded": 0, "failed": 0, "conditions": []}),
        ("retrying", wanted(), [pod("a", code=70), pod("b")],
         {"active": 1, "ready": 0, "succeeded": 0, "failed": 1, "conditions": []}),
        ("stopped and done", wanted(retries=0), [pod("a", code=75), pod("b", code=0, at=after(5))],
         {"active": 0, "ready": 0, "succeeded": 1, "failed": 0,
          "conditions": ended("Complete", "CompletionsReached", REACHED, seconds=5),
          "completionTime": after(5).isoformat()}),
        ("bad input", wanted(), [pod(code=65)],
         {"active": 0, "ready": 0, "succeeded": 0, "failed": 1,
          "conditions": ended("Failed", "PodFailurePolicy", BAD_INPUT)}),
        ("too often", wanted(retries=0), [pod(code=70)],
         {"active": 0, "ready": 0, "succeeded": 0, "failed": 1,
          "conditions": ended("Failed", "BackoffLimitExceeded", TOO_OFTEN)}),
        ("too long", wanted(activeDeadlineSeconds=60), [],
         {"active": 0, "ready": 0, "succeeded": 0, "failed": 0,
          "conditions": ended("Failed", "DeadlineExceeded", TOO_LONG, seconds=60)}),
    ],
)  # fmt: skip
def test_its_status_follows_from_its_pods(case, job, pods, expected):
    assert job_status(job, pods, now=after(99)) == {"startTime": NOW.isoformat()} | expected


def test_restarts_inside_a_pod_count_as_failures():
    spec = manifests.job()["spec"]["template"]["spec"] | {"restartPolicy": "OnFailure"}
    failed = replace(pod(code=70, spec=spec), attempt=3)  # ran three times
    [condition] = job_status(wanted(retries=2), [failed], now=NOW)["conditions"]
    assert condition["reason"] == "BackoffLimitExceeded"
    assert job_status(wanted(retries=3), [failed], now=NOW)["conditions"] == []
