from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.deployments.reconcile.workloads import World

pytestmark = pytest.mark.django_db(transaction=True)


def settle_many(world: World, count: int) -> None:
    """That many deployments that run, as if the reconciler had been there for each."""
    for number in range(count):
        bot = world.create_deployment(name=f"bot-{count}-{number}")
        world.reconcile(bot)
        world.cluster.make_ready(bot.public_id)
        world.reconcile(bot)


def test_a_sweep_makes_as_many_calls_and_queries_for_many_rows_as_for_few(world: World) -> None:
    costs = []
    for count in (2, 20):
        settle_many(world, count)
        reads = world.cluster.reads
        with CaptureQueriesContext(
            connection,
        ) as queries:
            swept = world.look()

        assert swept.rung == []
        costs.append((world.cluster.reads - reads, len(queries)))
    assert costs[0] == costs[1]
