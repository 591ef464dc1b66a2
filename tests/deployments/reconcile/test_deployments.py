"""The life of a deployment against a cluster in memory and a real PostgreSQL."""

from __future__ import annotations

import pytest

from deployments.reconcile.reconciler import Outcome
from tests.deployments.reconcile.workloads import World

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_wish_becomes_objects_then_pods_then_a_running_deployment(world: World) -> None:
    bot = world.create_deployment()
    name = bot.public_id.replace("_", "-")

    assert world.reconcile(bot) is Outcome.DONE
    assert world.cluster.objects(bot.public_id) == [f"Deployment {name}-r1", f"Service {name}"]
    assert (bot.state, bot.observed_generation) == ("pending", 1)

    world.cluster.start(bot.public_id)
    world.reconcile(bot)
    assert bot.state == "initializing"

    world.cluster.make_ready(bot.public_id)
    world.reconcile(bot)
    assert (bot.state, bot.serving_revision, bot.ready_replicas) == ("running", 1, 1)
    assert [(it["type"], it["status"], it["reason"]) for it in bot.conditions] == [
        ("Ready", "True", "Serving"),
        ("Reconciled", "True", "AsWanted"),
    ]
    assert world.events(bot) == ["Starting", "Running"]
    (replica,) = world.replicas(bot)
    assert (replica.ready, replica.node, replica.address) == (True, "node-1", replica.address)


def test_it_serves_the_old_revision_until_the_new_one_is_ready(world: World) -> None:
    bot = world.create_deployment()
    world.reconcile(bot)
    world.cluster.make_ready(bot.public_id)
    world.reconcile(bot)
    name = bot.public_id.replace("_", "-")

    world.update(bot, revision=2)
    world.reconcile(bot)
    both = [f"Deployment {name}-r1", f"Deployment {name}-r2", f"Service {name}"]
    assert world.cluster.objects(bot.public_id) == both
    assert (bot.state, bot.serving_revision) == ("updating", 1)

    world.cluster.make_ready(bot.public_id, revision=2)
    world.reconcile(bot)
    world.cluster.let_go()
    world.settle()
    bot.refresh_from_db()
    assert world.cluster.objects(bot.public_id) == [f"Deployment {name}-r2", f"Service {name}"]
    assert (bot.state, bot.serving_revision, bot.ready_replicas) == ("running", 2, 1)
    assert world.events(bot) == ["Running", "Updating", "RevisionServing", "Running"]
