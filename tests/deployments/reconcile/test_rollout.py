"""Which revisions have pods and which one answers: each case by the facts it is decided from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deployments.clusters.port import Observation, ObservedPod
from deployments.reconcile.conditions import Problem
from deployments.reconcile.rollout import (
    Before,
    Canary,
    Failure,
    Rollout,
    ServingWish,
    Strategy,
    Wish,
    canary_replicas,
    decide_rollout,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE = timedelta(minutes=30)
REJECTED = Problem(reason="Rejected", message="no such runtime class")
GIVEN_UP = Failure(reason="Crashed", message="it crashes")


def pods(revision: int, count: int = 1, *, ready: int | None = None, **facts: Any) -> list[ObservedPod]:
    """Pods of a revision that have started, all of them ready unless it is said how many."""
    first = ObservedPod(
        uid=f"{revision}-0",
        name=f"r{revision}",
        namespace="org",
        resource="dep_1",
        revision=revision,
        phase="Running",
        created_at=NOON,
        scheduled_at=NOON,
        started_at=NOON,
        node="n1",
    )
    answering = count if ready is None else ready
    return [
        replace(
            first,
            uid=f"{revision}-{number}",
            ready=number < answering,
            ready_at=NOON if number < answering else None,
            **facts,
        )
        for number in range(count)
    ]


def decide(*seen: list[ObservedPod], before: Before, now: datetime = NOON, **values: Any) -> Rollout:
    """The second revision is to follow the first, with two replicas."""
    problem, changed = values.pop("problem", None), values.pop("changed", False)
    wish = ServingWish(**{"desired": Wish.RUNNING, "replicas": 2, "target": 2, "patience": PATIENCE} | values)
    observation = Observation(pods=tuple(pod for group in seen for pod in group))
    return decide_rollout(wish, before=before, seen=observation, now=now, problem=problem, changed=changed)


FIRST = Before(serving=1, fallback=1)
PAUSED = Before(serving=None, fallback=1)
CANARY = {"canary": Canary(weight=10, stable=1)}
RECREATE = {"strategy": Strategy.RECREATE}
LATE = NOON + PATIENCE

CASES: list[tuple[str, Rollout, tuple[int | None, dict[int, int], int | None]]] = [
    ("the old one stays beside the new", decide(pods(1, 2), before=FIRST), (1, {1: 2, 2: 2}, 1)),
    (
        "one replica of the new one is not enough",
        decide(pods(1, 2), pods(2, 2, ready=1), before=FIRST),
        (1, {1: 2, 2: 2}, 1),
    ),
    ("all of them are", decide(pods(1, 2), pods(2, 2), before=FIRST), (2, {2: 2}, 2)),
    (
        "one is enough when the old one is down",
        decide(pods(1, 2, ready=0), pods(2, 2, ready=1), before=FIRST),
        (2, {2: 2}, 2),
    ),
    (
        "a refused one is given up",
        decide(pods(1, 2), before=FIRST, problem=REJECTED),
        (1, {1: 2}, 1),
    ),
    (
        "a hopeless one is given up",
        decide(pods(1, 2), pods(2, 2, ready=0, restarts=5, exit_code=1), before=FIRST),
        (1, {1: 2}, 1),
    ),
    (
        "a late one is given up",
        decide(pods(1, 2), pods(2, 2, ready=0), before=replace(FIRST, since=NOON), now=LATE),
        (1, {1: 2}, 1),
    ),
    (
        "what was given up stays so, whatever its pods say",
        decide(pods(1, 2), pods(2, 2), before=replace(FIRST, failure=GIVEN_UP)),
        (1, {1: 2}, 1),
    ),
    (
        "the first one is never given up",
        decide(pods(2, 2, ready=0, restarts=5, exit_code=1), before=Before(since=NOON), now=LATE),
        (None, {2: 2}, 2),
    ),
    ("recreate: the old one goes first", decide(pods(1, 2), before=FIRST, **RECREATE), (1, {}, 1)),
    (
        "recreate: until nothing of it is seen",
        decide(pods(1, 1, deleting_since=NOON), before=FIRST, **RECREATE),
        (1, {}, 1),
    ),
    ("recreate: then the new one comes", decide(before=FIRST, **RECREATE), (1, {2: 2}, 1)),
    (
        "recreate: and takes over with its first replica",
        decide(pods(2, 2, ready=1), before=FIRST, **RECREATE),
        (2, {2: 2}, 2),
    ),
    (
        "recreate: the old one comes back for one that was given up",
        decide(before=replace(FIRST, failure=GIVEN_UP), **RECREATE),
        (1, {1: 2}, 1),
    ),
    ("after a pause only the new one starts", decide(before=PAUSED), (None, {2: 2}, 2)),
    (
        "after a pause the old one starts instead of one that was given up",
        decide(before=replace(PAUSED, failure=GIVEN_UP)),
        (None, {1: 2}, 1),
    ),
    (
        "a canary comes beside the stable one",
        decide(pods(1, 2), before=FIRST, **CANARY),
        (1, {1: 2, 2: 1}, 1),
    ),
    (
        "a ready canary takes nothing over",
        decide(pods(1, 2), pods(2), before=FIRST, **CANARY),
        (1, {1: 2, 2: 1}, 1),
    ),
    (
        "a canary that was given up goes",
        decide(pods(1, 2), before=replace(FIRST, failure=GIVEN_UP), **CANARY),
        (1, {1: 2}, 1),
    ),
    ("after a pause both of a canary start", decide(before=PAUSED, **CANARY), (None, {1: 2, 2: 1}, 1)),
    ("a pause wants nothing", decide(pods(1, 2), before=FIRST, desired=Wish.PAUSED), (1, {}, None)),
    ("and forgets who served", decide(before=FIRST, desired=Wish.PAUSED), (None, {}, None)),
]


@pytest.mark.parametrize(("rollout", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_who_answers_and_who_has_pods(
    rollout: Rollout, expected: tuple[int | None, dict[int, int], int | None]
) -> None:
    assert (rollout.serving, dict(rollout.replicas), rollout.answering) == expected


def test_the_deadline_counts_from_the_last_replica_that_became_ready() -> None:
    arriving = pods(2, 2, ready=1)
    before = replace(FIRST, since=NOON - timedelta(hours=2))
    soon = NOON + PATIENCE - timedelta(seconds=1)
    assert decide(pods(1, 2), arriving, before=before, now=soon).failure is None
    failure = decide(pods(1, 2), arriving, before=before, now=LATE).failure
    assert failure == Failure(
        reason="ProgressDeadlineExceeded",
        message="It made no progress for 30 minutes. The model is loading on n1.",
    )


def test_a_change_of_the_wish_starts_the_patience_anew() -> None:
    late = decide(pods(1, 2), before=replace(FIRST, since=NOON), now=LATE, changed=True)
    assert (late.failure, late.since) == (None, LATE)


def test_a_canary_that_has_answered_has_no_deadline() -> None:
    before = replace(FIRST, since=NOON - timedelta(days=1), has_shared=True)
    lost_its_node = pods(2, ready=0)
    assert decide(pods(1, 2), lost_its_node, before=before, now=LATE, **CANARY).failure is None
    assert decide(pods(1, 2), lost_its_node, before=before, now=LATE).failure is not None


def test_a_rollout_that_is_over_has_no_beginning() -> None:
    before = replace(FIRST, since=NOON)
    assert decide(pods(1, 2), pods(2, 2), before=before).since is None


def test_what_served_last_is_remembered_through_a_pause() -> None:
    assert decide(before=FIRST, desired=Wish.PAUSED).fallback == 1


@pytest.mark.parametrize(
    ("replicas", "weight", "expected"),
    [(1, 1, 1), (3, 10, 1), (10, 10, 1), (10, 11, 2), (4, 50, 2), (4, 99, 4)],
)
def test_a_canary_gets_its_share_of_replicas_rounded_up(replicas: int, weight: int, expected: int) -> None:
    assert canary_replicas(replicas, weight=weight) == expected
