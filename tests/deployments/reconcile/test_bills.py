"""What faults leave on the bill: pauses that could not be carried out, replicas that vanish, outages."""

from __future__ import annotations

import pytest

from deployments.clusters.errors import ClusterUnreachable
from deployments.serving.models import Replica
from marketplace.billing.usage import Selection, make_statement
from marketplace.billing.verify import verify_ledger
from tests.deployments.reconcile.memory_cluster import failing
from tests.deployments.reconcile.workloads import World

pytestmark = pytest.mark.django_db(transaction=True)


def test_no_second_after_the_request_to_stop_is_billed(world: World) -> None:
    bot = world.create_deployment()
    begin = world.clock.now()
    world.reconcile(bot)
    world.cluster.start(bot.public_id)
    world.clock.advance(10)
    world.cluster.make_ready(bot.public_id)
    world.settle()
    world.clock.advance(60)
    world.pause(bot)
    world.clock.advance(5)  # the reconciler was late
    world.reconcile(bot)
    world.resume(bot)  # and the customer fast
    world.clock.advance(20)
    world.cluster.let_go()
    world.settle()
    assert world.usage(bot, since=begin) == [
        ("starting", "provider", 0, 10),
        ("serving", "customer", 10, 70),
        ("serving", "provider", 70, 95),
    ]


def test_a_replica_that_goes_on_after_all_is_billed_again_from_then(world: World) -> None:
    bot = world.running()
    begin = world.clock.now()
    world.clock.advance(60)
    world.pause(bot)
    world.cluster.before_call = failing(call="delete", error=ClusterUnreachable("timeout"))
    world.reconcile(bot)
    world.cluster.before_call = lambda call: None
    world.clock.advance(30)
    world.resume(bot)
    world.reconcile(bot)
    world.clock.advance(60)
    world.end(bot)
    assert world.usage(bot, since=begin) == [
        ("serving", "customer", 0, 60),
        ("serving", "provider", 60, 90),
        ("serving", "customer", 90, 150),
    ]


def test_pauses_that_nobody_could_carry_out_before_they_were_over_are_not_billed(world: World) -> None:
    bot = world.running()
    begin = world.clock.now()
    world.cluster.before_call = failing(call="observe", error=ClusterUnreachable("timeout"))
    for _ in range(2):
        world.clock.advance(60)
        world.pause(bot)
        world.reconcile(bot)
        world.clock.advance(30)
        world.resume(bot)
        world.reconcile(bot)
    world.cluster.before_call = lambda call: None
    world.clock.advance(60)
    world.reconcile(bot)
    world.end(bot)
    assert world.usage(bot, since=begin) == [
        ("serving", "customer", 0, 60),
        ("serving", "provider", 60, 90),
        ("serving", "customer", 90, 150),
        ("serving", "provider", 150, 180),
        ("serving", "customer", 180, 240),
    ]


def test_a_pause_is_over_when_the_customer_says_so_and_not_when_the_cluster_can_be_seen_again(
    world: World,
) -> None:
    bot = world.running()
    begin = world.clock.now()
    world.clock.advance(60)
    world.pause(bot)
    world.cluster.before_call = failing(call="delete", error=ClusterUnreachable("timeout"))
    world.reconcile(bot)
    world.clock.advance(30)
    world.resume(bot)
    world.cluster.before_call = lambda call: None
    world.clock.advance(100)
    world.reconcile(bot)
    world.clock.advance(60)
    world.end(bot)
    assert world.usage(bot, since=begin) == [
        ("serving", "customer", 0, 60),
        ("serving", "provider", 60, 90),
        ("serving", "customer", 90, 250),
    ]


def test_a_pause_that_was_carried_out_is_not_remembered(world: World) -> None:
    bot = world.running()
    world.pause(bot)
    world.reconcile(bot)
    world.cluster.let_go()
    world.settle()
    world.clock.advance(30)
    world.resume(bot)
    bot.refresh_from_db()
    assert bot.pauses == []


def test_a_replica_that_vanished_while_nobody_looked_is_billed_until_it_was_last_seen(world: World) -> None:
    bot = world.running()
    begin = world.clock.now()
    world.clock.advance(60)
    world.settle()
    world.clock.advance(1000)  # the control plane is down
    world.cluster.lose(bot.public_id)
    world.clock.advance(2600)
    world.look()  # notices that it is missing, and dies before anybody answers
    world.clock.advance(5)
    world.look()
    world.settle()
    assert world.usage(bot, since=begin) == [
        ("serving", "customer", 0, 60),
        ("serving", "provider", 60, 3665),
    ]
    assert verify_ledger().problems == []


def test_a_replica_that_was_only_missing_for_a_moment_is_billed_as_if_it_never_was(world: World) -> None:
    bot = world.running()
    begin = world.clock.now()
    world.clock.advance(60)
    world.settle()
    Replica.objects.update(last_seen_at=world.clock.now())  # as by a sweep that did not see it
    world.clock.advance(60)
    world.settle()
    world.clock.advance(60)
    world.cluster.lose(bot.public_id)
    world.settle()
    assert world.usage(bot, since=begin) == [
        ("serving", "customer", 0, 120),
        ("serving", "provider", 120, 180),
    ]


def test_nobody_pays_for_the_time_that_a_crashed_container_did_not_answer(world: World) -> None:
    bot = world.running()
    begin = world.clock.now()
    world.clock.advance(60)
    world.cluster.crash(bot.public_id, exit_code=137, word="OOMKilled")
    world.clock.advance(5)  # it is noticed a little later
    world.settle()
    world.clock.advance(25)
    world.cluster.make_ready(bot.public_id)
    world.settle()
    world.clock.advance(60)
    world.delete(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    assert world.usage(bot, since=begin) == [
        ("serving", "customer", 0, 60),
        ("outage", "provider", 60, 90),
        ("serving", "customer", 90, 150),
    ]
    assert verify_ledger().problems == []
    assert [it for it in world.events(bot) if it.startswith("Replica")] == [
        "ReplicaOutOfMemory",
        "ReplicaReadyAgain",
    ]


def test_nobody_pays_from_the_loss_of_a_node_on_although_its_pod_stays(world: World) -> None:
    bot = world.running()
    begin = world.clock.now()
    world.clock.advance(60)
    world.cluster.make_unready(bot.public_id, reason="NodeLost")
    world.clock.advance(30)
    world.settle()
    usage = make_statement(Selection(organization=world.organization), now=world.clock.now())
    assert [(it.stretch.phase, it.stretch.cause, it.stretch.duration.seconds) for it in usage.open] == [
        ("serving", "customer", 60),
        ("outage", "provider", 30),
    ]
    world.clock.advance(270)
    world.cluster.lose(bot.public_id)  # the pod is given up
    world.settle()
    assert world.usage(bot, since=begin) == [
        ("serving", "customer", 0, 60),
        ("outage", "provider", 60, 90),
        ("serving", "provider", 90, 360),  # nobody knows when it ended
    ]
    assert verify_ledger().problems == []


def test_an_outage_between_two_looks_lasts_from_when_it_was_last_seen_ready(world: World) -> None:
    bot = world.running()
    begin = world.clock.now()
    world.clock.advance(60)
    world.settle()
    world.clock.advance(1000)  # the control plane is down
    world.cluster.make_unready(bot.public_id)
    world.clock.advance(10)
    world.cluster.make_ready(bot.public_id)
    world.clock.advance(10)
    world.look()  # notices that it was away, and dies before anybody answers
    world.clock.advance(10)
    world.settle()
    world.delete(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    assert world.usage(bot, since=begin) == [
        ("serving", "customer", 0, 60),
        ("outage", "provider", 60, 1070),
        ("serving", "customer", 1070, 1090),
    ]
    assert verify_ledger().problems == []


def test_the_ledger_is_refused_when_an_outage_is_billed(world: World) -> None:
    bot = world.running()
    world.clock.advance(60)
    world.delete(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    (replica,) = world.replicas(bot)
    replica.outages = [{"start": replica.ready_at.isoformat(), "end": None, "reason": "NotReady"}]
    replica.save()
    (problem,) = verify_ledger().problems
    assert "did not answer" in problem
