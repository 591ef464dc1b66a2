from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.usage import serving_stretches, training_stretches, unrecorded
from marketplace.billing.metering import Stretch, gaps, missing

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def replica(**facts: object) -> ReplicaFacts:
    values = {"uid": "u", "name": "n", "revision": 1, "phase": "Running", "created_at": NOON}
    return ReplicaFacts(**{**values, **facts})  # type: ignore[arg-type]


def told(stretches: list[Stretch]) -> list[tuple[str, str, float, float]]:
    return [
        (it.phase, it.cause, (it.start - NOON).total_seconds(), (it.end - NOON).total_seconds())
        for it in stretches
    ]


SERVING = [
    ("it never started", {"finished_at": at(9)}, []),
    (
        "it started and was never ready",
        {"started_at": at(1), "finished_at": at(9)},
        [("starting", "provider", 1, 9)],
    ),
    (
        "it vanished some time after it was last seen",
        {"started_at": at(1), "ready_at": at(3), "last_seen_at": at(5), "vanished_at": at(9)},
        [("starting", "provider", 1, 3), ("serving", "customer", 3, 5), ("serving", "provider", 5, 9)],
    ),
    (
        "it vanished after a change of its readiness that nobody could write down",
        {
            "started_at": at(1),
            "ready_at": at(3),
            "ready_seen_at": at(5),
            "last_seen_at": at(7),
            "vanished_at": at(9),
        },
        [("starting", "provider", 1, 3), ("serving", "customer", 3, 5), ("serving", "provider", 5, 9)],
    ),
    (
        "it vanished and was not seen since it was asked to stop",
        {
            "started_at": at(1),
            "ready_at": at(3),
            "last_seen_at": at(5),
            "stop_requested_at": at(7),
            "vanished_at": at(9),
        },
        [("starting", "provider", 1, 3), ("serving", "customer", 3, 5), ("serving", "provider", 5, 9)],
    ),
    (
        "it was missing once and ended with a report all the same",
        {"started_at": at(1), "ready_at": at(3), "last_seen_at": at(5), "finished_at": at(9)},
        [("starting", "provider", 1, 3), ("serving", "customer", 3, 9)],
    ),
    (
        "it was asked to stop while serving",
        {"started_at": at(1), "ready_at": at(3), "stop_requested_at": at(5), "finished_at": at(9)},
        [("starting", "provider", 1, 3), ("serving", "customer", 3, 5), ("serving", "provider", 5, 9)],
    ),
    (
        "it was asked to stop before it was ready",
        {"started_at": at(1), "ready_at": at(5), "stop_requested_at": at(3), "finished_at": at(9)},
        [("starting", "provider", 1, 5), ("serving", "provider", 5, 9)],
    ),
    (
        "its node's clock is ahead of the server's",
        {"started_at": at(3), "ready_at": at(2), "finished_at": at(9)},
        [("serving", "customer", 3, 9)],
    ),
]


@pytest.mark.parametrize(("facts", "expected"), [case[1:] for case in SERVING], ids=[c[0] for c in SERVING])
def test_a_serving_replica_is_the_customers_from_ready_to_the_request_to_stop(facts, expected):
    assert told(serving_stretches(replica(**facts))) == expected


TRAINING = [
    ("it did its work", {"finished_at": at(9), "exit_code": 0}, [("training", "customer", 1, 9)]),
    ("its data was bad", {"finished_at": at(9), "exit_code": 65}, [("training", "customer", 1, 9)]),
    ("it saved a checkpoint", {"finished_at": at(9), "exit_code": 75}, [("training", "customer", 1, 9)]),
    ("an error of ours", {"finished_at": at(9), "exit_code": 70}, [("training", "provider", 1, 9)]),
    (
        "out of memory",
        {"finished_at": at(9), "exit_code": 137, "reason": "OOMKilled"},
        [("training", "provider", 1, 9)],
    ),
    ("its node was lost", {"vanished_at": at(9)}, [("training", "provider", 1, 9)]),
    (
        "it was cancelled",
        {"finished_at": at(9), "exit_code": 75, "stop_requested_at": at(5)},
        [("training", "customer", 1, 5), ("training", "provider", 5, 9)],
    ),
    (
        "it was cancelled and vanished before it could be told so",
        {"last_seen_at": at(3), "stop_requested_at": at(5), "vanished_at": at(9)},
        [("training", "customer", 1, 3), ("training", "provider", 3, 9)],
    ),
]


@pytest.mark.parametrize(("facts", "expected"), [c[1:] for c in TRAINING], ids=[c[0] for c in TRAINING])
def test_a_training_replica_is_the_customers_unless_the_provider_ended_it(facts, expected):
    assert told(training_stretches(replica(started_at=at(1), **facts))) == expected


moments = st.integers(min_value=0, max_value=50).map(at)
lives = st.builds(
    replica,
    started_at=moments,
    ready_at=st.none() | moments,
    stop_requested_at=st.none() | moments,
    finished_at=st.none() | moments,
    vanished_at=moments,
    last_seen_at=st.none() | moments,
    exit_code=st.sampled_from([0, 1, 65, 70, 75, 78, 137, None]),
    reason=st.sampled_from(["", "OOMKilled", "Evicted", "Error"]),
)


@given(life=lives, stretches=st.sampled_from([serving_stretches, training_stretches]))
def test_the_stretches_tile_the_life_of_a_replica(life, stretches):
    found = stretches(life)
    end = max(life.started_at, life.ended_at)
    assert sum((it.duration for it in found), timedelta()) == end - life.started_at
    if end > life.started_at:
        assert gaps(found, start=life.started_at, end=end) == []
    stop = life.stop_requested_at
    assert all(it.cause == "provider" for it in found if stop is not None and it.start >= stop)
    if life.finished_at is None:
        seen = life.last_seen_at or life.created_at
        assert all(it.end <= seen for it in found if it.cause == "customer")


@given(life=lives, until=moments, stretches=st.sampled_from([serving_stretches, training_stretches]))
def test_what_follows_the_recorded_part_contradicts_nothing(life, until, stretches):
    recorded = stretches(replica(started_at=life.started_at, ready_at=life.ready_at), until=until)
    rest = unrecorded(stretches(life), recorded=recorded)
    assert missing(rest, recorded=recorded) == rest
