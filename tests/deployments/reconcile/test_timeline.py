from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deployments.clusters.port import LogLine
from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.timeline import Step, learn_steps, timeline
from deployments.serving import logs
from deployments.serving import timelines as shown
from runtimes.contract import WeightsPhase, WeightsProgress, format_weights

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


NEW = ReplicaFacts(uid="u", name="n", revision=1, phase="Pending", created_at=NOON)
DONE = replace(
    NEW,
    scheduled_at=at(2),
    image_pulled_at=at(12),
    weights_done_at=at(52),
    started_at=at(53),
    ready_at=at(73),
)
USUAL = {Step.QUEUED: 2.0, Step.IMAGE: 10.0, Step.WEIGHTS: 40.0, Step.MODEL_LOAD: 20.0}


def told(replica: ReplicaFacts, **options: Any) -> list[tuple[str, float | None, float | None, float | None]]:
    def seconds(moment: datetime | None) -> float | None:
        return None if moment is None else (moment - NOON).total_seconds()

    found = timeline(replica, **{"usual": USUAL, "now": NOON, **options})
    return [(it.step.value, seconds(it.started_at), seconds(it.ended_at), seconds(it.eta)) for it in found]


def test_a_start_that_is_over_shows_when_each_step_began_and_ended():
    assert told(DONE) == [
        ("queued", 0, 2, None),
        ("scheduled", 2, 2, None),
        ("image", 2, 12, None),
        ("weights", 12, 52, None),
        ("model_load", 53, 73, None),
        ("ready", 73, 73, None),
    ]


def test_what_is_to_come_is_expected_from_earlier_starts():
    assert told(NEW) == [
        ("queued", 0, None, 2),
        ("scheduled", None, None, 2),
        ("image", None, None, 12),
        ("weights", None, None, 52),
        ("model_load", None, None, 72),
        ("ready", None, None, 72),
    ]


def test_a_step_that_takes_longer_than_usual_is_never_expected_in_the_past():
    queued = told(NEW, now=at(30))
    assert [eta for *_, eta in queued] == [30, 30, 40, 80, 100, 100]


def test_weights_on_their_way_say_themselves_how_long_they_take():
    fetching = replace(NEW, scheduled_at=at(2), image_pulled_at=at(12))
    assert told(fetching, now=at(20), weights_seconds=100)[3:] == [
        ("weights", 12, None, 120),
        ("model_load", None, None, 140),
        ("ready", None, None, 140),
    ]


def test_of_a_first_start_nothing_is_guessed():
    assert [eta for *_, eta in told(NEW, usual={})] == [None] * 5


def test_a_start_without_a_cache_has_no_weights_to_wait_for():
    local = replace(NEW, scheduled_at=at(2), image_pulled_at=at(3), started_at=at(3))
    assert [step for step, *_ in told(local)] == ["queued", "scheduled", "image", "model_load", "ready"]


def test_the_usual_time_of_a_step_is_the_median_of_earlier_starts():
    slow = replace(DONE, ready_at=at(1053))
    assert learn_steps([DONE, DONE, slow]) == USUAL
    assert learn_steps([]) == {}


@pytest.mark.django_db(transaction=True)
def test_a_deployment_learns_from_another_of_the_same_model_and_shows_the_bytes_of_its_weights(
    world, monkeypatch
):
    first = world.create_deployment(name="first")
    world.reconcile(first)
    world.clock.advance(5)
    world.cluster.start(first.public_id)
    world.clock.advance(20)
    world.cluster.make_ready(first.public_id)
    world.settle()
    second = world.create_deployment(name="second")
    world.reconcile(second)
    (pod,) = world.cluster.pods(second.public_id)
    world.cluster._set(pod, scheduled_at=world.clock.now(), image_pulled_at=world.clock.now())
    world.settle()
    progress = WeightsProgress(
        phase=WeightsPhase.FETCHING,
        at=NOON.isoformat(),
        bytes_done=30,
        bytes_total=100,
        bytes_per_second=7,
    )
    lines = [LogLine(number=1, text=format_weights(progress))]
    asked = []

    def read(resource, *, namespaces, **options):
        asked.append((resource, namespaces))
        return lines

    monkeypatch.setattr(world.cluster, "logs", read)
    monkeypatch.setattr(logs, "open_cluster", lambda row: world.cluster)
    ((new,), now) = shown.timelines(second, now=world.clock.now()), world.clock.now()
    steps = {step["step"]: step for step in new["steps"]}
    assert asked == [(second.public_id, {pod.namespace})]
    assert (steps["weights"]["bytes_done"], steps["weights"]["bytes_total"]) == (30, 100)
    assert steps["weights"]["eta"] == now + timedelta(seconds=10)
    assert steps["ready"]["eta"] == now + timedelta(seconds=30)
