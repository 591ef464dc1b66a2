"""The process dies after every single durable write, and the sweep alone brings things to the same end.

A scenario is a list of turns. In each turn the world moves (the customer wishes, pods come up or end), then
the control plane works until it is settled. The run without a death says what the end has to be. Then the
scenario is run again for every n: the process dies after its n-th durable write, leases run out, and sweeps
go on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deployments.reconcile.reconciler import reconcile
from deployments.serving.models import Deployment
from deployments.tuning.models import FineTuningJob
from tests.deployments.reconcile.dying import Died, Fuse, mortal
from tests.deployments.reconcile.workloads import World

pytestmark = pytest.mark.django_db(transaction=True)

Turn = Callable[[World, Any], None]


def come_up(world: World, row: Any) -> None:
    world.cluster.make_ready(row.public_id)


def come_up_partly(world: World, row: Any) -> None:
    world.cluster.make_ready(row.public_id, only=1)


def end(world: World, row: Any) -> None:
    world.cluster.let_go()


def update(world: World, row: Any) -> None:
    world.update(row, revision=row.target_revision + 1)


def replace_by(**columns: Any) -> Turn:
    """The customer asks for a new revision, and says how it should follow."""

    def turn(world: World, row: Any) -> None:
        world.add_revision(row, row.target_revision + 1)
        world.wish(row, target_revision=row.target_revision + 1, **columns)

    return turn


def promote(world: World, row: Any) -> None:
    world.wish(row, canary_weight=None, stable_revision=None)


def abort(world: World, row: Any) -> None:
    world.wish(row, target_revision=1, canary_weight=None, stable_revision=None)


def hours_pass(world: World, row: Any) -> None:
    world.clock.advance(7200)


def loop(world: World, row: Any) -> None:
    world.cluster.crash(row.public_id, exit_code=78, revision=row.target_revision, times=2)


def lose(world: World, row: Any) -> None:
    world.cluster.lose(row.public_id)


def nothing(world: World, row: Any) -> None:
    pass


canary = replace_by(canary_weight=10, stable_revision=1)

SCENARIOS: dict[str, tuple[Turn, ...]] = {
    "create": (nothing, come_up),
    "create two replicas": (lambda world, row: world.wish(row, desired_replicas=2), come_up_partly, come_up),
    "update": (nothing, come_up, update, come_up, end),
    "failed update, then a better one": (nothing, come_up, update, loop, update, end, come_up, end),
    "update that is late": (nothing, come_up, update, hours_pass, end),
    "recreate": (nothing, come_up, replace_by(strategy="recreate"), end, come_up),
    "failed recreate": (nothing, come_up, replace_by(strategy="recreate"), end, loop, end, come_up),
    "canary, then promoted": (nothing, come_up, canary, come_up, promote, come_up, end),
    "canary, then aborted": (nothing, come_up, canary, come_up, abort, end),
    "canary, then paused": (nothing, come_up, canary, come_up, World.pause, end, World.resume, come_up),
    "pause": (nothing, come_up, World.pause, end),
    "pause and resume": (nothing, come_up, World.pause, end, World.resume, come_up),
    "delete": (nothing, come_up, World.delete, end),
    "delete during the start": (nothing, World.delete, end),
    "delete during an update": (nothing, come_up, update, World.delete, end),
    "pods lost": (nothing, come_up, lose, come_up),
}


def train(world: World, row: Any) -> None:
    world.cluster.start(row.public_id)
    world.report(row, "started", step=0, total_steps=10)
    world.report(row, "progress", step=3, loss=2.5, total_steps=10)
    world.report(row, "checkpoint", step=3, path="step-3")


def finish(world: World, row: Any) -> None:
    world.report(row, "progress", step=10, loss=1.5, total_steps=10)
    world.cluster.finish(row.public_id, exit_code=0)


def crash(world: World, row: Any) -> None:
    world.cluster.finish(row.public_id, exit_code=70)


def refuse(world: World, row: Any) -> None:
    world.report(row, "failed", step=3, message="no examples", line=7, customer=True)
    world.cluster.finish(row.public_id, exit_code=65)


JOBS: dict[str, tuple[Turn, ...]] = {
    "job that succeeds": (nothing, train, finish, end),
    "job that is tried again": (nothing, train, crash, train, finish, end),
    "job with bad data": (nothing, train, refuse, end),
    "job that is cancelled": (nothing, train, World.cancel, end),
}


@pytest.mark.parametrize("scenario", SCENARIOS | JOBS)
def test_it_ends_the_same_wherever_the_process_dies(world: World, scenario: str) -> None:
    turns = (SCENARIOS | JOBS)[scenario]
    world.makes_jobs = scenario in JOBS
    whole = Fuse(lives=None)
    expected = play(world, turns, fuse=whole)
    assert whole.written > 5

    wrong = []
    for lives in range(1, whole.written + 1):
        found = play(world, turns, fuse=Fuse(lives=lives))
        if found != expected:
            wrong.append((lives, found))
    assert wrong == [], f"expected {expected}"


def play(world: World, turns: tuple[Turn, ...], *, fuse: Fuse) -> dict[str, Any]:
    """Runs a scenario from the beginning on an empty cluster. Returns the state of the world at its end."""
    world.move_to_new_cluster()
    make = world.create_job if world.makes_jobs else world.create_deployment
    row: Any = make(name=f"bot-{fuse.lives}")
    begin = world.clock.now()
    for turn in turns:
        world.clock.advance(60)
        turn(world, row)
        try:
            with mortal(world.cluster, fuse=fuse):
                reconcile(row.public_id, cluster=world.cluster, now=world.clock.now)
                world.settle()
        except Died:
            world.restart()
            world.settle()
        row.refresh_from_db()
    return the_end(world, row, begin=begin)


def the_end(world: World, row: Any, *, begin: Any) -> dict[str, Any]:
    def anonymous(text: str) -> str:
        return text.replace(row.public_id.replace("_", "-"), "NAME")

    special = of_deployment(row) if isinstance(row, Deployment) else of_job(row)
    return special | {
        "state": row.state,
        "conditions": [(it["type"], it["status"], it["reason"]) for it in row.conditions],
        "events": world.events(row),
        "objects": [anonymous(item) for item in world.cluster.objects(row.public_id)],
        "usage": world.usage(row, since=begin),
        # Those that began in the same moment have no order.
        "replicas": sorted(
            (
                (it.revision, it.phase, it.ready, it.started_at and (it.started_at - begin).total_seconds())
                for it in world.replicas(row)
            ),
            key=repr,
        ),
    }


def of_deployment(row: Deployment) -> dict[str, Any]:
    return {
        "serving": row.serving_revision,
        "ready": row.ready_replicas,
        "deleted": row.deleted_at is not None,
    }


def of_job(row: FineTuningJob) -> dict[str, Any]:
    return {
        "progress": row.progress,
        "error": row.error,
        "result": row.result and row.result.parent_id,
        "training": list(row.training_events.order_by("id").values_list("type", "step", "line")),
        "checkpoints": list(row.checkpoints.order_by("step").values_list("step", "path")),
    }
