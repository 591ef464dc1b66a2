"""A deployment gets what its plan said, at its price, or a refusal that says what changed."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from deployments.serving.models import Deployment, Plan
from marketplace.billing.models import Quota
from marketplace.billing.prices import set_price
from marketplace.catalog.models import License, Recipe
from marketplace.hardware.models import Flavor
from tests.market import Market, say_nodes
from tests.people import Person

PLANS = "/api/v1/plans/"
DEPLOYMENTS = "/api/v1/deployments/"
ASK = {"model": "tests/chatter", "flavor": "test-small"}


def accepted_plan(person: Person, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = person.api.post(PLANS, {**ASK, **changes}).json()
    assert document["accepted"], document["checks"]
    return document


def refusal(person: Person, plan: dict[str, Any], **headers: str) -> dict[str, Any]:
    """The problem with which a deployment from the plan is refused."""
    answer = person.api.post(DEPLOYMENTS, {"name": "bot", "plan": plan["id"]}, headers=headers)
    assert answer.status_code == 409, answer.json()
    assert not Deployment.objects.exists()
    problem: dict[str, Any] = answer.json()
    return problem


def raise_price(market: Market) -> None:
    set_price(
        flavor=market.flavor,
        region=market.region,
        per_second=Decimal("0.00002"),
        currency="EUR",
        since=timezone.now(),
    )


def test_a_changed_price_is_told_with_a_new_plan_to_accept(alice: Person, market: Market) -> None:
    plan = accepted_plan(alice)
    raise_price(market)
    problem = refusal(alice, plan)
    assert problem["type"] == "/problems/plan-outdated"
    assert problem["differences"] == [
        {
            "field": "price",
            "planned": "0.00001 EUR a second",
            "now": "0.00002 EUR a second",
            "message": "The price of this flavor changed.",
        }
    ]
    assert problem["fresh_plan"]["price"]["per_second"] == "0.00002"
    made = alice.api.post(DEPLOYMENTS, {"name": "bot", "plan": problem["fresh_plan"]["id"]}).json()
    assert made["price"]["per_second"] == "0.00002"


def test_the_new_plan_stays_although_the_request_was_to_take_effect_once(
    alice: Person, market: Market
) -> None:
    plan = accepted_plan(alice)
    raise_price(market)
    fresh = refusal(alice, plan, **{"Idempotency-Key": "one"})["fresh_plan"]
    assert Plan.objects.filter(public_id=fresh["id"]).exists()


def test_the_price_of_a_deployment_stays_when_the_price_book_changes(alice: Person, market: Market) -> None:
    made = alice.api.post(DEPLOYMENTS, {"name": "bot", "plan": accepted_plan(alice)["id"]}).json()
    raise_price(market)
    assert alice.api.get(f"{DEPLOYMENTS}{made['id']}/").json()["price"] == made["price"]


def test_an_expired_plan_says_so_and_brings_a_new_one(alice: Person, market: Market) -> None:
    plan = accepted_plan(alice)
    Plan.objects.filter(public_id=plan["id"]).update(expires_at=timezone.now() - timedelta(seconds=1))
    problem = refusal(alice, plan)
    assert (problem["type"], problem["differences"]) == ("/problems/plan-expired", [])
    assert "Nothing that it says has changed." in problem["detail"]
    made = alice.api.post(DEPLOYMENTS, {"name": "bot", "plan": problem["fresh_plan"]["id"]})
    assert made.status_code == 201


@pytest.mark.parametrize(
    ("what", "field"),
    [("recipe", "recipe"), ("flavor", "flavor"), ("quota", "quota"), ("terms", "license")],
)
def test_every_other_change_is_told_by_its_field(
    alice: Person, market: Market, what: str, field: str
) -> None:
    plan = accepted_plan(alice)
    if what == "recipe":
        Recipe.objects.update(image="marketplace/runtime-cpu:other")
    elif what == "flavor":
        Flavor.objects.filter(pk=market.flavor.pk).update(memory_bytes=5 * 2**30)
    elif what == "quota":
        Quota.objects.create(organization=alice.organization, accelerator_family="cpu", limit=1)
    else:
        market.model.gated = True
        market.model.save()
    assert [item["field"] for item in refusal(alice, plan)["differences"]] == [field]


def test_room_that_went_refuses_only_who_asked_for_it(alice: Person, market: Market) -> None:
    patient, hasty = accepted_plan(alice), accepted_plan(alice, require_capacity=True)
    say_nodes(market.cluster, cores=1, memory=2**30)
    assert [item["field"] for item in refusal(alice, hasty)["differences"]] == ["capacity"]
    assert alice.api.post(DEPLOYMENTS, {"name": "bot", "plan": patient["id"]}).status_code == 201


def test_a_gated_model_asks_for_its_terms_to_be_accepted(alice: Person, bob: Person, market: Market) -> None:
    market.model.gated = True
    market.model.save()
    plan = alice.api.post(PLANS, ASK).json()
    (check,) = [check for check in plan["checks"] if not check["passed"]]
    accept = f"/api/v1/models/{market.model.public_id}/accept-terms/"
    assert (check["name"], check["who"], check["blocking"]) == ("license", "customer", True)
    assert accept in check["remedy"]
    assert bob.api.post(accept).status_code == 403
    assert alice.api.post(accept).json()["terms_accepted"] is True
    assert accepted_plan(alice)


def test_terms_are_accepted_for_one_organization_and_one_license(
    alice: Person, charlie: Person, market: Market
) -> None:
    market.model.gated = True
    market.model.save()
    alice.api.post(f"/api/v1/models/{market.model.public_id}/accept-terms/")
    assert not charlie.api.post(PLANS, ASK).json()["accepted"]
    market.model.license = License.objects.create(slug="other", name="Other license")
    market.model.save()
    assert not alice.api.post(PLANS, ASK).json()["accepted"]


def test_a_license_without_commercial_use_is_said_and_does_not_refuse(alice: Person, market: Market) -> None:
    License.objects.update(commercial_use=False)
    (check,) = [check for check in accepted_plan(alice)["checks"] if not check["passed"]]
    assert check["message"] == "Test license of Chatter does not allow commercial use."
