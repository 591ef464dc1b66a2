"""Plans go once nobody can accept them, except those that something was made from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from deployments.serving.models import Deployment, Plan, Revision
from deployments.serving.pruning import prune_plans
from deployments.serving.tasks import prune_plans as tick
from tests.market import Market
from tests.people import Person


def planned(person: Person, *, expired: timedelta) -> dict[str, Any]:
    """A plan that expired so long ago."""
    ask = {"model": "tests/chatter", "flavor": "test-small"}
    document: dict[str, Any] = person.api.post("/api/v1/plans/", ask).json()
    Plan.objects.filter(public_id=document["id"]).update(expires_at=timezone.now() - expired)
    return document


def test_plans_that_expired_more_than_a_day_ago_go_batch_by_batch(alice: Person, market: Market) -> None:
    for hours in (25, 26, 48):
        planned(alice, expired=timedelta(hours=hours))
    kept = {
        planned(alice, expired=timedelta(hours=23))["id"],
        planned(alice, expired=timedelta(minutes=-10))["id"],
    }

    assert prune_plans(now=timezone.now(), batch=2) == 3

    assert set(Plan.objects.values_list("public_id", flat=True)) == kept
    assert prune_plans(now=timezone.now(), batch=2) == 0


def test_the_plans_of_deployments_and_of_their_earlier_revisions_stay(alice: Person, market: Market) -> None:
    plan = planned(alice, expired=timedelta(minutes=-10))
    made = alice.api.post("/api/v1/deployments/", {"name": "bot", "plan": plan["id"]}).json()
    address = f"/api/v1/deployments/{made['id']}/"
    alice.api.patch(address, {"context_length": 1024})
    before = alice.api.get(address).json()
    wanted = {Deployment.objects.get().plan, *(it.plan for it in Revision.objects.all())}
    planned(alice, expired=timedelta())
    Plan.objects.update(expires_at=timezone.now() - timedelta(days=2))

    prune_plans(now=timezone.now())

    assert len(wanted) == 2
    assert set(Plan.objects.all()) == wanted
    assert alice.api.get(address).json() == before


def test_beat_ticks_for_it_by_the_name_that_the_task_has() -> None:
    assert settings.CELERY_BEAT_SCHEDULE["prune-plans"] == {"task": tick.name, "schedule": 3600.0}
