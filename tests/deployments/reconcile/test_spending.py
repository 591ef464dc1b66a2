"""What billing is told of replicas: what they use while they live, and that none is missing in the ledger."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deployments.clusters.errors import ClusterUnreachable
from deployments.reconcile.spending import lifetimes, spending
from deployments.serving.models import Replica
from marketplace.billing.usage import Selection, make_statement
from marketplace.billing.verify import verify_ledger
from tests.deployments.reconcile.memory_cluster import failing
from tests.deployments.reconcile.workloads import World

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_living_replica_is_spending_and_an_ended_one_is_in_the_ledger(world: World) -> None:
    bot = world.create_deployment()
    world.reconcile(bot)
    world.cluster.make_ready(bot.public_id)
    world.reconcile(bot)
    (replica,) = world.replicas(bot)
    assert replica.ready_at is not None
    later = replica.ready_at + timedelta(seconds=60)
    (usage,) = spending(bot.organization, later)
    assert usage.replica_uid == replica.uid
    assert [(it.phase, it.cause) for it in usage.stretches][-1] == ("serving", "customer")
    assert usage.stretches[-1].end == later
    assert list(lifetimes()) == []

    world.clock.advance(60)
    world.delete(bot)
    world.settle()
    world.cluster.let_go()
    world.settle()
    assert list(spending(bot.organization, later)) == []
    assert [life.replica_uid for life in lifetimes()] == [replica.uid]
    assert verify_ledger().problems == []


def test_a_living_replica_of_which_a_part_is_recorded_is_counted_once(world: World) -> None:
    bot = world.create_deployment()
    begin = world.clock.now()
    world.reconcile(bot)
    world.cluster.make_ready(bot.public_id)
    world.reconcile(bot)
    world.clock.advance(60)
    world.pause(bot)
    world.cluster.before_call = failing(call="delete", error=ClusterUnreachable("timeout"))
    world.reconcile(bot)
    world.cluster.before_call = lambda call: None
    world.clock.advance(30)
    world.resume(bot)
    world.reconcile(bot)  # what was used so far is recorded, and the replica goes on
    now = world.clock.advance(60)
    (usage,) = spending(bot.organization, now)
    assert [(it.start - begin).total_seconds() for it in usage.stretches] == [0, 60, 90]
    assert (usage.stretches[-1].end, {it.phase for it in usage.stretches}) == (now, {"serving"})
    statement = make_statement(Selection(organization=bot.organization), now=now)
    (opened,) = statement.open
    assert (opened.stretch.start - begin, opened.stretch.end) == (timedelta(seconds=90), now)
    assert sum((line.duration for line in statement.lines), timedelta()) == timedelta(seconds=150)


def test_a_replica_that_was_never_recorded_is_found(world: World) -> None:
    bot = world.create_deployment()
    started = bot.created_at
    Replica.objects.create(
        uid="forgotten",
        name="forgotten",
        organization=bot.organization,
        resource=bot.public_id,
        cluster=bot.cluster,
        phase="Succeeded",
        created_at=started,
        started_at=started,
        finished_at=started + timedelta(seconds=90),
    )
    (problem,) = verify_ledger().problems
    assert problem.startswith(f"replica forgotten of {bot.public_id} ran from")
    assert problem.endswith("nothing of it is recorded")
