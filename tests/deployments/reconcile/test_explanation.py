from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from deployments.clusters.errors import ClusterError
from deployments.clusters.port import ObjectRef, ObservedObject, ObservedPod
from deployments.reconcile.explanation import MEANINGS, Fixer, Why, explain, explanation_json
from deployments.reconcile.problems import problem_of
from deployments.reconcile.scheduling import QuotaExcess, Verdict, read_quota, read_verdict
from deployments.reconcile.status import State
from deployments.reconcile.termination import TerminationReason
from deployments.reconcile.waiting import waiting_for

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CREATED = ObservedPod(
    uid="1", name="pod", namespace="org", resource="dep_1", revision=1, phase="Pending", created_at=NOON
)
SCHEDULED = replace(CREATED, scheduled_at=NOON, node="n1")
STARTED = replace(SCHEDULED, phase="Running", started_at=NOON)
READY = replace(STARTED, ready_at=NOON, ready_changed_at=NOON)
NO_ROOM = (
    "0/5 nodes are available: 1 node(s) had untolerated taint {gpu: true}, 1 node(s) didn't match Pod's node "
    "affinity/selector, 3 Insufficient nvidia.com/gpu, 1 Insufficient memory. preemption: 0/5 nodes are "
    "available: 2 Preemption is not helpful for scheduling, 3 No preemption victims found for incoming pod."
)
QUOTA = (
    'pods "dep-1-r1-abc" is forbidden: exceeded quota: marketplace, requested: requests.nvidia.com/gpu=1,'
    "requests.memory=64Gi, used: requests.nvidia.com/gpu=8,requests.memory=448Gi, limited: "
    "requests.nvidia.com/gpu=8,requests.memory=512Gi"
)


def of_pod(pod: ObservedPod) -> tuple[Why, Fixer, bool]:
    wait = waiting_for(pod)
    assert wait is not None
    found = explain(reason=wait.reason, message=wait.message, pods=[pod])
    meaning = MEANINGS[found.why]
    return found.why, meaning.who, meaning.retry


def pulling(message: str) -> ObservedPod:
    return replace(SCHEDULED, reason="ImagePullBackOff", message=message)


def fetching(**facts: Any) -> ObservedPod:
    return replace(SCHEDULED, init_container="weights", **facts)


def ended(**facts: Any) -> ObservedPod:
    return replace(STARTED, restarts=1, reason="CrashLoopBackOff", **facts)


PODS = [
    ("it looks for a node", CREATED, (Why.SCHEDULING, Fixer.NOBODY, True)),
    (
        "no node has room",
        replace(CREATED, reason="Unschedulable", message=NO_ROOM),
        (Why.NO_CAPACITY, Fixer.PROVIDER, True),
    ),
    (
        "no node is of the kind",
        replace(
            CREATED,
            reason="Unschedulable",
            message="0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
        ),
        (Why.NO_SUCH_NODE, Fixer.PROVIDER, True),
    ),
    (
        "its volume is not there",
        replace(
            CREATED,
            reason="Unschedulable",
            message='0/2 nodes are available: persistentvolumeclaim "marketplace-storage" not found.',
        ),
        (Why.NO_VOLUME, Fixer.PROVIDER, True),
    ),
    (
        "the image does not exist",
        pulling("rpc error: code = NotFound desc = failed to resolve reference: x:1: not found"),
        (Why.IMAGE_NOT_FOUND, Fixer.PROVIDER, False),
    ),
    (
        "the image is not ours to read",
        pulling("failed to authorize: 401 Unauthorized"),
        (Why.IMAGE_FORBIDDEN, Fixer.PROVIDER, False),
    ),
    (
        "the registry is away",
        pulling("dial tcp: lookup registry: no such host"),
        (Why.REGISTRY_UNREACHABLE, Fixer.UPSTREAM, True),
    ),
    (
        "the image has no name",
        replace(SCHEDULED, reason="InvalidImageName"),
        (Why.IMAGE_INVALID, Fixer.PROVIDER, False),
    ),
    ("the container is prepared", SCHEDULED, (Why.PREPARING, Fixer.NOBODY, True)),
    ("the weights are on their way", fetching(), (Why.WEIGHTS, Fixer.NOBODY, True)),
    ("the weights are not there", fetching(exit_code=66), (Why.WEIGHTS_MISSING, Fixer.PROVIDER, False)),
    ("the weights are damaged", fetching(exit_code=76), (Why.WEIGHTS_CORRUPT, Fixer.PROVIDER, False)),
    ("the cache is full", fetching(exit_code=73), (Why.WEIGHTS_NO_SPACE, Fixer.PROVIDER, True)),
    ("the model loads", STARTED, (Why.LOADING, Fixer.NOBODY, True)),
    (
        "it has too little memory",
        ended(exit_code=137, last_end_reason="OOMKilled"),
        (Why.OUT_OF_MEMORY, Fixer.YOU, False),
    ),
    ("it crashes", ended(exit_code=1), (Why.CRASHED, Fixer.PROVIDER, True)),
    ("its probe fails", READY, (Why.NOT_READY, Fixer.PROVIDER, True)),
    ("its node is lost", replace(READY, reason="NodeLost"), (Why.NODE_LOST, Fixer.PROVIDER, True)),
]


@pytest.mark.parametrize(("pod", "expected"), [c[1:] for c in PODS], ids=[c[0] for c in PODS])
def test_it_says_why_a_pod_does_not_run_and_who_can_change_it(pod, expected):
    assert of_pod(pod) == expected


def test_every_reason_has_a_meaning_and_a_state_that_exists():
    assert MEANINGS.keys() == set(Why)
    assert {meaning.state for meaning in MEANINGS.values()} <= {state.value for state in State}


@pytest.mark.parametrize("end", TerminationReason)
def test_every_end_has_a_reason(end):
    assert explain(reason=end.value, message="").why is not Why.UNKNOWN


@pytest.mark.parametrize("error", ClusterError.__subclasses__())
def test_every_error_of_a_cluster_has_a_reason(error):
    problem = problem_of(error("something is wrong"))
    assert explain(reason=problem.reason, message=problem.message).why is not Why.UNKNOWN


def test_the_schedulers_sentence_becomes_numbers():
    assert read_verdict(NO_ROOM) == Verdict(
        nodes=5, short={"nvidia.com/gpu": 3, "memory": 1}, other_kind=1, tainted=1
    )
    assert read_verdict("no word of nodes") is None


def test_the_sentence_of_a_quota_becomes_numbers():
    assert read_quota(QUOTA) == (
        QuotaExcess(resource="nvidia.com/gpu", requested="1", used="8", limited="8"),
        QuotaExcess(resource="memory", requested="64Gi", used="448Gi", limited="512Gi"),
    )
    assert read_quota("forbidden: violates PodSecurity") == ()


def test_numbers_say_what_is_needed_and_on_how_many_nodes_it_is_short():
    pod = replace(CREATED, reason="Unschedulable", message=NO_ROOM)
    found = explain(
        reason="Unschedulable", message=f"No node has room: {NO_ROOM}", pods=[pod], need={"nvidia.com/gpu": 2}
    )
    told = {number.name: (number.need, number.short_nodes, number.unit) for number in found.numbers}
    assert told == {
        "nodes": (1, 5, "nodes"),
        "nvidia.com/gpu": (2, 3, "devices"),
        "memory": (None, 1, "bytes"),
    }


def test_replicas_that_the_quota_of_the_namespace_forbids_are_explained_in_numbers():
    deployment = ObservedObject(
        ref=ObjectRef("apps/v1", "Deployment", "org", "dep-1-r1"),
        uid="2",
        resource="dep_1",
        revision=1,
        spec_hash="h",
        status={"conditions": [{"type": "ReplicaFailure", "status": "True", "message": QUOTA}]},
    )
    found = explain(reason="Starting", message="about to", objects=[deployment])
    gpu = found.numbers[0]
    assert (found.why, gpu.need, gpu.free, gpu.quota) == (Why.QUOTA, 1, 0, 8)


def test_since_stays_as_long_as_the_reason_does():
    first = explanation_json(explain(reason="Loading", message="a"), before=None, now=NOON)
    later = datetime(2026, 3, 2, tzinfo=UTC)
    same = explanation_json(explain(reason="Loading", message="b"), before=first, now=later)
    other = explanation_json(explain(reason="Crashed", message="c"), before=first, now=later)
    assert [it["since"] for it in (same, other)] == [NOON.isoformat(), later.isoformat()]


@pytest.mark.django_db(transaction=True)
def test_a_deployment_explains_itself_until_it_runs(world):
    bot = world.create_deployment()
    world.reconcile(bot)
    assert (bot.explanation["reason"], bot.explanation["who"]) == ("Scheduling", "nobody")
    world.cluster.leave_waiting(bot.public_id, reason="Unschedulable", message=NO_ROOM)
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, bot.explanation["state"], bot.explanation["reason"]) == (
        "pending",
        "pending",
        "NoCapacity",
    )
    memory = next(number for number in bot.explanation["numbers"] if number["name"] == "memory")
    assert memory["need"] == 4 * 2**30
    world.cluster.make_ready(bot.public_id)
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, bot.explanation) == ("running", None)
    world.pause(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    bot.refresh_from_db()
    assert (bot.explanation["reason"], bot.explanation["who"]) == ("Paused", "you")


@pytest.mark.django_db(transaction=True)
def test_a_job_that_failed_explains_itself(world):
    job = world.create_job(retries=0)
    world.reconcile(job)
    world.cluster.start(job.public_id)
    world.settle()
    job.refresh_from_db()
    assert job.explanation is None
    world.cluster.finish(job.public_id, exit_code=137, reason="OOMKilled")
    world.settle()
    job.refresh_from_db()
    assert (job.state, job.explanation["reason"], job.explanation["who"]) == ("failed", "OutOfMemory", "you")
