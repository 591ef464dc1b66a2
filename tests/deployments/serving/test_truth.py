"""What customers read of a deployment that does not run: by REST and in the portal, also once deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from deployments.clusters.capacity import remember_nodes
from deployments.clusters.port import NodeCapacity
from deployments.reconcile.explanation import Why, explain
from deployments.serving.explanations import register_actions, unregister_actions
from deployments.serving.models import Deployment, PostMortem, Replica
from marketplace.billing.models import Quota
from tests.market import Market
from tests.people import Person

DEPLOYMENTS = "/api/v1/deployments/"


def a_deployment(person: Person) -> Deployment:
    ask = {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    document = person.api.post(DEPLOYMENTS, ask).json()
    return Deployment.objects.get(public_id=document["id"])


def without_room(deployment: Deployment) -> None:
    found = explain(
        reason="Unschedulable",
        message="No node has room: 0/2 nodes are available: 2 Insufficient cpu.",
        need={"cpu": 2.0},
    )
    deployment.explanation = found.to_json(since=timezone.now())
    deployment.save()


def a_post_mortem(deployment: Deployment) -> PostMortem:
    return PostMortem.objects.create(
        organization=deployment.organization,
        resource=deployment.public_id,
        resource_name=deployment.name,
        replica_uid="u",
        replica="bot-1",
        revision=1,
        attempt=1,
        node="node-1",
        created_at=timezone.now(),
        ended_at=timezone.now(),
        exit_code=137,
        reason="OutOfMemory",
        message="It ran out of memory.",
        cause="host-out-of-memory",
        fix={"title": "Too little memory", "message": "Take more.", "who": "you", "change": {}},
        lines=["loading", "Killed"],
    )


def test_it_says_what_is_needed_what_is_free_and_what_the_quota_is(alice: Person, market: Market) -> None:
    bot = a_deployment(alice)
    without_room(bot)
    family = bot.flavor.accelerator.family
    Quota.objects.update_or_create(
        organization=alice.organization, accelerator_family=family, defaults={"limit": 16}
    )
    node = NodeCapacity(name="n", labels={}, allocatable={"cpu": 4000}, requested={"cpu": 3500})
    remember_nodes(bot.cluster.slug, [node])
    found = alice.api.get(f"{DEPLOYMENTS}{bot.public_id}/").json()["explanation"]
    assert (found["reason"], found["who"], found["retry_helps"]) == ("NoCapacity", "provider", True)
    assert [action["id"] for action in found["actions"]] == ["wait", "pause"]
    cpu = next(number for number in found["numbers"] if number["name"] == "cpu")
    assert cpu == {
        "name": "cpu",
        "unit": "cores",
        "need": 2.0,
        "free": 0.5,
        "quota": 16.0,
        "short_nodes": 2,
    }
    assert "needs 2" in alice.browser.get(f"/deployments/{bot.public_id}/").content.decode()


def test_actions_come_from_whoever_knows_ways_out_and_are_three_at_most(
    alice: Person, market: Market
) -> None:
    bot = a_deployment(alice)
    without_room(bot)

    def ways_out(workload: Any, explanation: Any) -> list[dict[str, Any]]:
        assert explanation["reason"] == Why.NO_CAPACITY.value
        action = {"title": "t", "method": "PATCH", "endpoint": "e", "body": {}, "price": None}
        return [{**action, "id": str(number), "eta_seconds": None} for number in range(5)]

    register_actions(ways_out)
    try:
        found = alice.api.get(f"{DEPLOYMENTS}{bot.public_id}/").json()["explanation"]
        (listed,) = alice.api.get(DEPLOYMENTS).json()["items"]
    finally:
        unregister_actions(ways_out)
    # Planning's come first: it was registered when the apps were ready.
    assert [action["id"] for action in found["actions"]] == ["wait", "pause", "0"]
    assert listed["explanation"]["actions"] == []


def test_a_deployment_that_runs_has_nothing_to_explain(alice: Person, market: Market) -> None:
    assert alice.api.get(f"{DEPLOYMENTS}{a_deployment(alice).public_id}/").json()["explanation"] is None


def test_a_post_mortem_is_read_after_the_deletion(alice: Person, market: Market) -> None:
    bot = a_deployment(alice)
    a_post_mortem(bot)
    Deployment.objects.update(state="deleted", desired_state="deleted", deleted_at=timezone.now())
    (found,) = alice.api.get(f"{DEPLOYMENTS}{bot.public_id}/post-mortems/").json()["items"]
    assert (found["exit_code"], found["lines"], found["fix"]["who"]) == (137, ["loading", "Killed"], "you")
    assert "Too little memory" in alice.browser.get(f"/deployments/{bot.public_id}/").content.decode()


def test_the_timeline_shows_the_steps_of_a_start(alice: Person, market: Market) -> None:
    bot = a_deployment(alice)
    now = timezone.now()
    Replica.objects.create(
        uid="u",
        name="bot-1",
        organization=alice.organization,
        resource=bot.public_id,
        revision=1,
        cluster=bot.cluster,
        phase="Running",
        created_at=now,
        scheduled_at=now,
        started_at=now + timedelta(seconds=1),
    )
    (found,) = alice.api.get(f"{DEPLOYMENTS}{bot.public_id}/timeline/").json()["items"]
    assert [(step["step"], step["ended_at"] is not None) for step in found["steps"]] == [
        ("queued", True),
        ("scheduled", True),
        ("image", True),
        ("model_load", False),
        ("ready", False),
    ]
    assert "model_load" in alice.browser.get(f"/deployments/{bot.public_id}/").content.decode()
