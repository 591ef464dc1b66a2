"""Updates, rollbacks and canaries as customers ask for them by REST."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from deployments.reconcile.rollout import canary_replicas
from deployments.serving.holdings import held_units
from deployments.serving.models import Deployment, Event, Plan, Revision
from marketplace.accounts.models import AuditEvent
from marketplace.billing.models import Quota
from marketplace.billing.prices import set_price
from marketplace.catalog.models import ModelVersion
from marketplace.hardware.models import Flavor, NodePool
from tests.market import GIB, Market, say_nodes
from tests.people import Person

DEPLOYMENTS = "/api/v1/deployments/"


@pytest.fixture
def path(alice: Person, market: Market) -> str:
    """The address of alice's deployment `bot`, whose first revision serves with one replica."""
    wish = {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    document = alice.api.post(DEPLOYMENTS, wish).json()
    say(serving_revision=1, fallback_revision=1, ready_replicas=1, state="running")
    return f"{DEPLOYMENTS}{document['id']}/"


def say(**facts: Any) -> None:
    """What the reconciler would find."""
    Deployment.objects.update(**facts)


def give_up(number: int) -> None:
    failure = {"reason": "Crashed", "message": "It crashes."}
    Revision.objects.filter(number=number).update(failed_at=timezone.now(), failure=failure)


def update(alice: Person, path: str, **changes: Any) -> dict[str, Any]:
    answer = alice.api.patch(path, {"context_length": 1024, **changes})
    assert answer.status_code == 200, answer.content
    document: dict[str, Any] = answer.json()
    return document


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def test_each_revision_says_what_it_changed_and_where_it_stands(alice: Person, path: str) -> None:
    update(alice, path)
    update(alice, path, context_length=512, max_concurrency=2)
    give_up(2)
    items = alice.api.get(f"{path}revisions/").json()["items"]
    assert [(item["number"], item["state"], item["differences"]) for item in items] == [
        (
            3,
            "target",
            [
                {"field": "context_length", "before": 1024, "after": 512},
                {"field": "max_concurrency", "before": 4, "after": 2},
            ],
        ),
        (2, "failed", [{"field": "context_length", "before": 2048, "after": 1024}]),
        (1, "serving", []),
    ]
    assert items[1]["failure"] == {"name": "Crashed", "message": "It crashes.", "remedy": ""}


def test_a_revision_that_was_taken_back_says_so_and_nothing_is_compared_with_it(
    alice: Person, path: str
) -> None:
    update(alice, path, context_length=512)
    assert alice.api.post(f"{path}abort/").status_code == 200
    update(alice, path, context_length=256)
    items = alice.api.get(f"{path}revisions/").json()["items"]
    assert [(item["number"], item["state"], item["differences"]) for item in items] == [
        (3, "target", [{"field": "context_length", "before": 2048, "after": 256}]),
        (2, "aborted", [{"field": "context_length", "before": 2048, "after": 512}]),
        (1, "serving", []),
    ]


def test_a_preview_says_what_a_rolling_update_needs_and_changes_nothing(
    alice: Person, path: str, market: Market
) -> None:
    say_nodes(market.cluster, cores=1, memory=16 * GIB)  # beside what runs
    answer = alice.api.post(f"{path}preview/", {"context_length": 1024})
    document = answer.json()
    assert document["differences"] == [{"field": "context_length", "before": 2048, "after": 1024}]
    rollout = document["rollout"]
    assert (rollout["replicas_at_once"], rollout["needed"], rollout["free"]) == (2, 1, 0)
    assert (rollout["has_room"], rollout["downtime_seconds"]) == (False, 0)
    assert rollout["message"] == (
        "The old revision serves until the new one is ready, so both need room at once: 2 replicas, 1 more "
        "than now; 0 are free. It would wait, and be given up after 30 minutes without progress."
    )
    assert '"strategy": "recreate"' in rollout["remedy"]
    assert document["price"]["meanwhile"]["per_second"] == "0.00002"
    assert Deployment.objects.get().target_revision == 1


def test_a_preview_of_recreate_says_how_long_nothing_answers(
    alice: Person, path: str, market: Market
) -> None:
    say_nodes(market.cluster, cores=1, memory=16 * GIB)
    wish = {"context_length": 1024, "strategy": "recreate"}
    rollout = alice.api.post(f"{path}preview/", wish).json()["rollout"]
    assert (rollout["replicas_at_once"], rollout["needed"], rollout["has_room"]) == (1, 0, True)
    assert rollout["message"].startswith("The old revision goes first: nothing answers ")


def test_a_preview_of_more_replicas_makes_no_revision(alice: Person, path: str) -> None:
    document = alice.api.post(f"{path}preview/", {"replicas": 2}).json()
    assert document["rollout"] is None
    assert document["differences"] == [{"field": "replicas", "before": 1, "after": 2}]
    assert document["price"]["then"]["per_second"] == "0.00002"


def test_a_preview_of_what_cannot_run_says_why(alice: Person, path: str) -> None:
    document = alice.api.post(f"{path}preview/", {"context_length": 8192, "max_concurrency": 64}).json()
    assert (document["possible"], [item["name"] for item in document["reasons"]]) == (False, ["memory"])


def test_an_update_says_how_the_new_revision_comes(alice: Person, path: str) -> None:
    document = update(alice, path, strategy="recreate", progress_deadline_seconds=600)
    assert (document["strategy"], document["progress_deadline_seconds"]) == ("recreate", 600)
    message = Event.objects.latest("id").message
    assert message == "Asked to change context_length to 1024, after the old revision has gone."
    assert update(alice, path, context_length=512)["strategy"] == "rolling"  # said for one update


def test_an_update_that_finds_no_room_may_be_changed_to_recreate(alice: Person, path: str) -> None:
    update(alice, path)
    changed = alice.api.patch(path, {"strategy": "recreate"}).json()
    assert (changed["strategy"], changed["target_revision"]) == ("recreate", 2)


@pytest.mark.parametrize(
    ("wish", "type"),
    [
        ({"canary": {"weight": 10}}, "no-canary"),
        ({"strategy": "recreate"}, "no-update"),
        ({"progress_deadline_seconds": 60}, "no-update"),
    ],
)
def test_how_to_roll_out_nothing_is_refused(alice: Person, path: str, wish: Any, type: str) -> None:
    assert refusal(alice.api.patch(path, wish)) == (409, type)


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"canary": {"weight": 0}}, "canary.weight"),
        ({"canary": {"weight": 100}}, "canary.weight"),
        ({"canary": {"weight": "x"}}, "canary.weight"),
        ({"canary": {}}, "canary.weight"),
        ({"canary": {"weight": 10, "header": "x"}}, "canary.header"),
        ({"canary": {"weight": 10}, "strategy": "recreate"}, "strategy"),
        ({"strategy": "blue-green"}, "strategy"),
        ({"progress_deadline_seconds": 1}, "progress_deadline_seconds"),
    ],
)
def test_a_rollout_that_makes_no_sense_is_refused_by_field(
    alice: Person, path: str, wish: Any, field: str
) -> None:
    answer = alice.api.patch(path, {"context_length": 1024, **wish})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)
    assert Revision.objects.count() == 1


def test_a_rollback_is_a_new_revision_with_the_old_specification(
    alice: Person, path: str, market: Market
) -> None:
    update(alice, path)
    say(serving_revision=2, fallback_revision=2)
    preview = alice.api.post(f"{path}rollback/", {"revision": 1, "dry_run": True}).json()
    assert (preview["dry_run"], preview["deployment"]) == (True, None)
    assert preview["preview"]["differences"] == [{"field": "context_length", "before": 1024, "after": 2048}]
    assert preview["preview"]["price"]["then"]["per_second"] == "0.00001"
    assert Revision.objects.count() == 2

    done = alice.api.post(f"{path}rollback/", {"revision": 1}).json()
    assert done["preview"]["differences"] == preview["preview"]["differences"]
    assert (done["deployment"]["target_revision"], done["deployment"]["serving_revision"]) == (3, 2)
    first, _, third = Revision.objects.order_by("number")
    assert third.spec == first.spec | {"revision": 3}
    assert AuditEvent.objects.latest("id").changes == {
        "target_revision": [2, 3],
        "copied_from": [None, 1],
    }


def test_a_rollback_to_the_revision_that_serves_starts_nothing_anew(alice: Person, path: str) -> None:
    update(alice, path)
    give_up(2)
    preview = alice.api.post(f"{path}rollback/", {"revision": 1, "dry_run": True}).json()["preview"]
    assert preview["rollout"]["message"] == (
        "Revision 1 serves already: the update to revision 2 is taken back, and nothing starts anew."
    )
    done = alice.api.post(f"{path}rollback/", {"revision": 1}).json()["deployment"]
    assert (done["target_revision"], Revision.objects.count()) == (1, 2)
    assert update(alice, path)["target_revision"] == 3  # numbers only grow


def test_what_was_given_up_may_be_tried_again_as_a_new_revision(alice: Person, path: str) -> None:
    update(alice, path)
    give_up(2)
    done = alice.api.post(f"{path}rollback/", {"revision": 2}).json()["deployment"]
    assert done["target_revision"] == 3


def test_a_rollback_to_nothing_is_refused(alice: Person, path: str) -> None:
    assert refusal(alice.api.post(f"{path}rollback/", {"revision": 7})) == (409, "revision-unknown")
    assert refusal(alice.api.post(f"{path}rollback/", {"revision": 1})) == (409, "revision-current")
    assert alice.api.post(f"{path}rollback/", {}).status_code == 400


def test_a_rollback_to_what_cannot_run_any_more_is_refused_with_reasons(
    alice: Person, path: str, market: Market
) -> None:
    update(alice, path)
    say(serving_revision=2, fallback_revision=2)
    NodePool.objects.filter(flavor=market.flavor).delete()
    preview = alice.api.post(f"{path}rollback/", {"revision": 1, "dry_run": True}).json()["preview"]
    assert preview["possible"] is False
    assert [reason["name"] for reason in preview["reasons"]] == ["placement"]
    assert refusal(alice.api.post(f"{path}rollback/", {"revision": 1})) == (409, "plan-not-accepted")

    assert Deployment.objects.get().target_revision == 2


def test_a_rollback_to_a_flavor_without_a_price_is_refused(alice: Person, path: str, market: Market) -> None:
    update(alice, path)
    say(serving_revision=2, fallback_revision=2)
    market.price.valid = (market.price.valid.lower, timezone.now())
    market.price.save()
    preview = alice.api.post(f"{path}rollback/", {"revision": 1, "dry_run": True}).json()["preview"]
    assert [reason["name"] for reason in preview["reasons"]] == ["price"]


def test_a_rollback_to_a_model_without_weights_is_refused(alice: Person, path: str, market: Market) -> None:
    second = ModelVersion.objects.create(
        model=market.model, revision="c" * 40, parent=market.version, is_adapter=True, storage_path="models/x"
    )
    update(alice, path)
    say(serving_revision=2, fallback_revision=2)
    Revision.objects.filter(number=1).update(version=second)  # never published
    preview = alice.api.post(f"{path}rollback/", {"revision": 1, "dry_run": True}).json()["preview"]
    assert [reason["name"] for reason in preview["reasons"]] == ["weights"]


def test_a_canary_says_its_share_and_its_replicas(alice: Person, path: str) -> None:
    alice.api.patch(path, {"replicas": 2})
    document = update(alice, path, canary={"weight": 60})
    assert document["canary"] == {"weight": 60, "revision": 2, "stable_revision": 1, "replicas": 2}
    changed = alice.api.patch(path, {"canary": {"weight": 20}}).json()
    assert changed["canary"] == {"weight": 20, "revision": 2, "stable_revision": 1, "replicas": 1}
    assert changed["target_revision"] == 2


def test_a_canary_counts_against_the_quota_beside_the_stable_revision(
    alice: Person, path: str, market: Market
) -> None:
    Quota.objects.create(organization=alice.organization, accelerator_family="cpu", limit=3)
    assert alice.api.patch(path, {"context_length": 1024}).status_code == 200  # one follows the other
    wish = {"context_length": 512, "canary": {"weight": 10}}
    assert refusal(alice.api.patch(path, wish)) == (409, "quota-exceeded")


@pytest.mark.parametrize(("weight", "replicas"), [(1, 3), (50, 3), (51, 4), (99, 4)])
def test_a_canary_is_held_beside_the_stable_revision(
    alice: Person, path: str, weight: int, replicas: int
) -> None:
    alice.api.patch(path, {"replicas": 2})
    update(alice, path, canary={"weight": weight})
    assert canary_replicas(2, weight=weight) == replicas - 2
    assert held_units(organization=alice.organization)["cpu"] == 2 * replicas


def test_a_canary_on_another_flavor_is_held_with_its_own_size(
    alice: Person, path: str, market: Market
) -> None:
    Flavor.objects.filter(pk=market.large.pk).update(vcpus=3)
    set_price(
        flavor=market.large,
        region=market.region,
        per_second=Decimal("0.1"),
        currency="EUR",
        since=timezone.now(),
    )
    say_nodes(market.cluster, cores=64, memory=64 * GIB)
    alice.api.patch(path, {"replicas": 2})
    quota = Quota.objects.create(organization=alice.organization, accelerator_family="cpu", limit=6)
    wish = {"flavor": "test-large", "canary": {"weight": 10}}
    answer = alice.api.patch(path, wish)
    assert refusal(answer) == (409, "quota-exceeded")
    assert answer.json()["need"] == 2 * 2 + 3
    quota.limit = 7
    quota.save()
    assert alice.api.patch(path, wish).status_code == 200
    assert held_units(organization=alice.organization) == {"cpu": 2 * 2 + 3}


def test_a_canary_is_promoted(alice: Person, path: str) -> None:
    update(alice, path, canary={"weight": 10})
    document = alice.api.post(f"{path}promote/").json()
    assert (document["canary"], document["target_revision"]) == (None, 2)
    assert refusal(alice.api.post(f"{path}promote/")) == (409, "no-canary")


def test_a_canary_that_was_given_up_is_not_promoted(alice: Person, path: str) -> None:
    update(alice, path, canary={"weight": 10})
    give_up(2)
    answer = alice.api.post(f"{path}promote/")
    assert refusal(answer) == (409, "canary-failed")
    assert answer.json()["detail"].startswith("The canary was given up: It crashes.")


def test_a_canary_is_aborted(alice: Person, path: str) -> None:
    plan = Plan.objects.get()
    update(alice, path, canary={"weight": 10})
    document = alice.api.post(f"{path}abort/").json()
    assert (document["canary"], document["target_revision"]) == (None, 1)
    assert document["plan"] == plan.public_id
    assert refusal(alice.api.post(f"{path}abort/")) == (409, "no-update")


def test_a_canary_beside_nothing_is_refused(alice: Person, path: str) -> None:
    say(serving_revision=None, fallback_revision=None, state="pending")
    wish = {"context_length": 1024, "canary": {"weight": 10}}
    assert refusal(alice.api.patch(path, wish)) == (409, "nothing-serves")


def test_every_wish_about_revisions_leaves_an_event_and_an_audit_entry(alice: Person, path: str) -> None:
    update(alice, path, canary={"weight": 10})
    alice.api.post(f"{path}promote/")
    alice.api.post(f"{path}abort/")
    alice.api.post(f"{path}rollback/", {"revision": 2})
    reasons = list(Event.objects.order_by("id").values_list("reason", flat=True))
    assert reasons == ["Created", "Changed", "PromoteRequested", "AbortRequested", "RollbackRequested"]
    actions = list(AuditEvent.objects.order_by("id").values_list("action", flat=True))
    assert actions[1:] == [f"deployment.{verb}" for verb in ("update", "promote", "abort", "rollback")]
