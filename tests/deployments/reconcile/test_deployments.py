"""The life of a deployment against a cluster in memory and a real PostgreSQL."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from deployments.reconcile.reconciler import Outcome
from deployments.serving.models import Deployment, Revision
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


def replace_revision(world: World, bot: Deployment, **columns: Any) -> None:
    """Asks for a second revision, and says how it should follow the first."""
    world.add_revision(bot, 2)
    world.wish(bot, target_revision=2, **columns)
    world.reconcile(bot)


def condition(bot: Deployment, type: str) -> tuple[str, str, str]:
    (found,) = (it for it in bot.conditions if it["type"] == type)
    return found["status"], found["reason"], found["message"]


def revisions_with_pods(world: World, bot: Deployment) -> dict[int | None, int]:
    return dict(Counter(pod.revision for pod in world.cluster.pods(bot.public_id)))


def test_an_update_that_makes_no_progress_is_given_up_and_holds_nothing(world: World) -> None:
    bot = world.running()
    replace_revision(world, bot, progress_seconds=600)
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    for _ in range(2):
        world.cluster.leave_waiting(bot.public_id, reason="Unschedulable", message=message)
        world.settle()
        world.clock.advance(300)
    bot.refresh_from_db()
    assert bot.state == "updating"
    assert world.look().rung == [bot.public_id]  # nothing on the cluster has changed but the time

    world.settle()
    bot.refresh_from_db()
    assert (bot.state, bot.serving_revision, bot.ready_replicas) == ("update_failed", 1, 1)
    assert revisions_with_pods(world, bot) == {1: 1}
    assert condition(bot, "Updated") == (
        "False",
        "ProgressDeadlineExceeded",
        "Revision 2 was given up and holds nothing: It made no progress for 10 minutes. No node has room: "
        f"{message} Revision 1 serves on. Change the deployment, or roll back to any revision.",
    )
    failed = Revision.objects.get(deployment=bot, number=2)
    assert (failed.failed_at, failed.served_at) == (world.clock.now(), None)
    world.cluster.let_go()
    world.settle()
    assert world.look().rung == []


def test_a_revision_that_crashes_is_given_up_and_a_later_one_serves(world: World) -> None:
    bot = world.running()
    replace_revision(world, bot)
    world.cluster.crash(bot.public_id, exit_code=78, revision=2, times=2)
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, revisions_with_pods(world, bot)) == ("update_failed", {1: 1})

    world.update(bot, revision=3)
    world.settle()
    world.cluster.make_ready(bot.public_id, revision=3)
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, bot.serving_revision, revisions_with_pods(world, bot)) == ("running", 3, {3: 1})


def test_a_failed_update_that_was_paused_comes_back_with_the_revision_that_served(world: World) -> None:
    bot = world.running()
    replace_revision(world, bot)
    world.cluster.crash(bot.public_id, exit_code=78, revision=2, times=2)
    world.settle()
    world.pause(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    world.resume(bot)
    world.settle()
    assert revisions_with_pods(world, bot) == {1: 1}
    world.cluster.make_ready(bot.public_id)
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, bot.serving_revision) == ("update_failed", 1)


def test_recreate_waits_until_nothing_of_the_old_revision_is_left(world: World) -> None:
    bot = world.running()
    replace_revision(world, bot, strategy="recreate")
    assert revisions_with_pods(world, bot) == {}
    assert (bot.state, condition(bot, "Ready")[1]) == ("pending", "Recreating")
    assert world.look().rung == []  # it waits

    world.cluster.let_go()
    world.settle()
    assert revisions_with_pods(world, bot) == {2: 1}
    world.cluster.make_ready(bot.public_id)
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, bot.serving_revision) == ("running", 2)


def test_a_canary_serves_beside_the_stable_revision_until_it_is_promoted(world: World) -> None:
    bot = world.running(replicas=3)
    replace_revision(world, bot, canary_weight=40, stable_revision=1)
    assert revisions_with_pods(world, bot) == {1: 3, 2: 2}
    assert (bot.state, bot.serving_revision) == ("updating", 1)

    world.cluster.make_ready(bot.public_id, revision=2)
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, bot.serving_revision, bot.ready_replicas) == ("updating", 1, 3)
    assert condition(bot, "Updated") == (
        "False",
        "Canary",
        "Revision 2 answers 40 % of the requests with 2 replicas, revision 1 the others with 3; both are "
        "billed. Promote it or abort.",
    )
    world.clock.advance(100_000)
    assert world.look().rung == []  # it may stay so for as long as the customer likes

    world.wish(bot, canary_weight=None, stable_revision=None)
    world.settle()
    assert revisions_with_pods(world, bot) == {1: 3, 2: 3}
    world.cluster.make_ready(bot.public_id, revision=2)
    world.settle()
    bot.refresh_from_db()
    assert (bot.state, bot.serving_revision, revisions_with_pods(world, bot)) == ("running", 2, {2: 3})
    assert world.events(bot) == [
        "Running",
        "Updating",
        "CanaryServing",
        "RevisionServing",
        "Running",
    ]


def test_both_revisions_of_a_canary_are_billed_while_both_serve_by_wish(world: World) -> None:
    bot = world.running()
    begin = world.clock.now()
    replace_revision(world, bot, canary_weight=10, stable_revision=1)
    world.cluster.make_ready(bot.public_id, revision=2)
    world.settle()
    world.clock.advance(60)
    world.wish(bot, target_revision=1, canary_weight=None, stable_revision=None)  # aborted
    world.settle()
    world.clock.advance(20)
    world.cluster.let_go()
    world.settle()
    world.clock.advance(10)
    world.delete(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    assert sorted(world.usage(bot, since=begin)) == [
        ("serving", "customer", 0, 60),
        ("serving", "customer", 0, 90),
        ("serving", "provider", 60, 80),
    ]
