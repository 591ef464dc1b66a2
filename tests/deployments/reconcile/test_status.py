from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from deployments.clusters.port import Observation, ObservedPod
from deployments.reconcile.conditions import Problem, conditions_json, reconciled
from deployments.reconcile.rollout import Before, ServingWish, Wish, decide_rollout
from deployments.reconcile.status import State, serving_status

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CREATED = ObservedPod(
    uid="1",
    name="pod",
    namespace="org",
    resource="dep_1",
    revision=1,
    phase="Pending",
    created_at=NOON,
)
UNSCHEDULABLE = replace(CREATED, reason="Unschedulable", message="0/3 nodes: 3 Insufficient nvidia.com/gpu")
SCHEDULED = replace(CREATED, scheduled_at=NOON, node="n1")
NO_IMAGE = replace(SCHEDULED, reason="ErrImagePull", message="manifest unknown")
BAD_IMAGE = replace(SCHEDULED, reason="InvalidImageName", message="couldn't parse image name")
STARTED = replace(SCHEDULED, phase="Running", started_at=NOON)
READY = replace(STARTED, ready=True, ready_at=NOON)
LEAVING = replace(READY, deleting_since=NOON)
CRASHED = replace(STARTED, restarts=1, exit_code=1, reason="CrashLoopBackOff")
CRASHING = replace(CRASHED, restarts=5)
MISCONFIGURED = replace(CRASHED, exit_code=78)


def second(pod: ObservedPod) -> ObservedPod:
    return replace(pod, revision=2, uid="20")


def derive(
    *pods: ObservedPod,
    desired: Wish = Wish.RUNNING,
    replicas: int = 1,
    target: int = 1,
    before: int | None = None,
    state_before: str = "running",
    problem: Problem | None = None,
) -> Any:
    wish = ServingWish(desired=desired, replicas=replicas, target=target)
    seen = Observation(pods=pods)
    recorded = Before(serving=before, fallback=before)
    rollout = decide_rollout(wish, before=recorded, seen=seen, now=NOON, problem=problem)
    return serving_status(
        wish, rollout, state_before=state_before, seen=seen, problem=problem, settled=problem is None
    )


REJECTED = Problem(reason="Rejected", message="65 IPUs are too many")
STATES = [
    ("nothing is there yet", derive(), ("pending", None, "Starting")),
    ("no node has room", derive(UNSCHEDULABLE), ("pending", None, "Unschedulable")),
    ("it is prepared", derive(SCHEDULED), ("initializing", None, "Preparing")),
    ("the image is not there", derive(NO_IMAGE), ("initializing", None, "ErrImagePull")),
    ("the image has no valid name", derive(BAD_IMAGE), ("failed", None, "InvalidImageName")),
    ("the model loads", derive(STARTED), ("initializing", None, "Loading")),
    ("it crashed once", derive(CRASHED), ("initializing", None, "Crashed")),
    ("it crashes again and again", derive(CRASHING), ("failed", None, "Crashed")),
    ("its configuration is wrong", derive(MISCONFIGURED), ("failed", None, "BadConfiguration")),
    ("the cluster refuses it", derive(problem=REJECTED), ("failed", None, "Rejected")),
    ("it answers", derive(READY), ("running", 1, "Serving")),
    ("it does not answer for a moment", derive(STARTED, before=1), ("initializing", 1, "Loading")),
    (
        "the cluster is away",
        derive(READY, problem=Problem(reason="Unreachable", message="")),
        ("running", 1, "Serving"),
    ),
    (
        "the next revision starts",
        derive(READY, second(STARTED), target=2, before=1),
        ("updating", 1, "Serving"),
    ),
    (
        "the next revision crashes",
        derive(READY, second(CRASHING), target=2, before=1),
        ("update_failed", 1, "Serving"),
    ),
    (
        "the next revision is refused",
        derive(READY, target=2, before=1, problem=REJECTED),
        ("update_failed", 1, "Serving"),
    ),
    (
        "the next revision has taken over",
        derive(LEAVING, second(READY), target=2, before=1),
        ("running", 2, "Serving"),
    ),
    ("both are down", derive(CRASHING, second(CRASHING), target=2, before=1), ("failed", 1, "Crashed")),
    ("it is being paused", derive(LEAVING, desired=Wish.PAUSED, before=1), ("running", 1, "Stopping")),
    ("it is paused", derive(desired=Wish.PAUSED, before=1), ("paused", None, "Paused")),
]


@pytest.mark.parametrize(("status", "expected"), [c[1:] for c in STATES], ids=[c[0] for c in STATES])
def test_the_state_follows_from_facts(status, expected):
    assert (status.state, status.serving, status.conditions[0].reason) == expected


def test_a_reason_passes_on_the_numbers_of_the_cluster():
    message = derive(UNSCHEDULABLE).conditions[0].message
    assert message == "No node has room: 0/3 nodes: 3 Insufficient nvidia.com/gpu"


def test_fewer_replicas_than_asked_are_a_degradation():
    status = derive(READY, replace(STARTED, uid="2"), replicas=2)
    message = "1 of 2 replicas are ready. The model is loading on n1."
    assert (status.state, status.degradations) == (
        State.RUNNING,
        ({"reason": "FewerReplicas", "message": message},),
    )


def test_since_stays_while_only_the_words_change():
    before = conditions_json([reconciled(REJECTED)], before=[], now=NOON)
    later = datetime(2026, 3, 2, tzinfo=UTC)
    other = Problem(reason="Unreachable", message="no route")
    assert conditions_json([reconciled(other)], before=before, now=later)[0]["since"] == NOON.isoformat()
    assert conditions_json([reconciled(None)], before=before, now=later)[0]["since"] == later.isoformat()
