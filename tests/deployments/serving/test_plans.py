from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis.exceptions import RedisError

from deployments.serving.models import Deployment, Plan, Replica
from marketplace.billing.models import Quota
from marketplace.catalog.models import Model, ModelVersion, Recipe
from marketplace.hardware.models import Accelerator, Flavor, NodePool, Region
from tests.market import Market, say_nodes
from tests.people import Person

PLANS = "/api/v1/plans/"
ASK = {"model": "tests/chatter", "flavor": "test-small"}


def plan(person: Person, **changes: Any) -> dict[str, Any]:
    response = person.api.post(PLANS, {**ASK, **changes})
    assert response.status_code == 201, response.json()
    document: dict[str, Any] = response.json()
    return document


def failed(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in document["checks"] if not check["passed"]}


def test_a_plan_tells_fit_price_and_start_before_anything_is_committed(alice: Person, market: Market) -> None:
    document = plan(alice)
    assert document["accepted"]
    assert document["spec"] == {
        "model": market.version.public_id,
        "flavor": "test-small",
        "region": "test",
        "machine_class": None,
        "precision": None,
        "replicas": 1,
        "context_length": 2048,
        "max_concurrency": 4,
        "require_capacity": False,
    }
    assert Decimal(document["price"]["per_minute"]) == Decimal("0.0006")
    assert document["price"]["currency"] == "EUR"
    assert document["eta_seconds"] == 10.0
    assert document["memory"]["expected"] <= document["memory"]["available"] == 4 * 2**30
    assert [check["name"] for check in document["checks"]] == [
        "weights",
        "placement",
        "memory",
        "price",
        "quota",
        "capacity",
    ]


def test_two_replicas_cost_twice_as_much(alice: Person, market: Market) -> None:
    assert Decimal(plan(alice, replicas=2)["price"]["per_minute"]) == Decimal("0.0012")


def test_what_does_not_fit_is_refused_in_numbers(alice: Person, market: Market) -> None:
    document = plan(alice, context_length=8192, max_concurrency=64)
    memory = failed(document)["memory"]
    assert not document["accepted"]
    assert memory["need"] > memory["available"] == 4 * 2**30
    assert memory["who"] == "customer"
    assert "shorter context" in memory["remedy"]


def test_a_full_cluster_is_said_but_does_not_refuse(alice: Person, market: Market) -> None:
    say_nodes(market.cluster, cores=1, memory=2**30)
    document = plan(alice)
    assert document["accepted"]
    assert failed(document)["capacity"]["message"] == (
        "1 replica(s) asked; on the emptiest of 1 node(s): cpu 2 cores needed, 1 cores free; "
        "memory 4.0 GiB needed, 1.0 GiB free."
    )


def test_a_cluster_that_has_not_been_heard_of_is_not_taken_for_full(alice: Person, market: Market) -> None:
    cache.clear()
    document = plan(alice)
    assert document["accepted"]
    assert "does not answer" in failed(document)["capacity"]["message"]


def test_a_cache_that_is_down_leaves_capacity_unknown(
    alice: Person, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RedisError("connection refused")

    monkeypatch.setattr(cache, "get_many", refuse)
    document = plan(alice)
    assert document["accepted"]
    assert "does not answer" in failed(document)["capacity"]["message"]


def test_quota_counts_what_the_organization_holds(alice: Person, market: Market) -> None:
    Quota.objects.create(organization=alice.organization, accelerator_family="cpu", limit=3)
    assert plan(alice)["accepted"]
    alice.api.post("/api/v1/deployments/", {"name": "first", **ASK})
    quota = failed(plan(alice))["quota"]
    assert (quota["need"], quota["available"], quota["who"]) == (2, 1, "provider")


def test_a_flavor_without_price_is_not_sold(alice: Person, market: Market) -> None:
    document = plan(alice, flavor="test-large")
    assert not document["accepted"]
    assert set(failed(document)) == {"price"}
    assert [offer["flavor"] for offer in document["alternatives"]] == ["test-small"]


def test_a_version_whose_weights_are_missing_cannot_be_planned(alice: Person, market: Market) -> None:
    other = Model.objects.create(
        publisher="tests", slug="empty", name="Empty", task="text-generation", license=market.model.license
    )
    ModelVersion.objects.create(model=other, revision="c" * 40, published_at=timezone.now())
    document = plan(alice, model="tests/empty", flavor=None)
    assert set(failed(document)) == {"weights", "placement"}


def test_the_start_time_is_learnt_from_earlier_starts(alice: Person, market: Market) -> None:
    made = alice.api.post("/api/v1/deployments/", {"name": "first", **ASK}).json()
    now = timezone.now()
    for number, seconds in enumerate((4, 6, 50)):
        Replica.objects.create(
            uid=f"uid-{number}",
            name=f"pod-{number}",
            organization=alice.organization,
            resource=made["id"],
            cluster=market.cluster,
            phase="Running",
            created_at=now,
            ready_at=now + timedelta(seconds=seconds),
        )
    assert plan(alice)["eta_seconds"] == 6.0


def test_a_misspelt_field_gets_a_suggestion_and_makes_no_plan(alice: Person, market: Market) -> None:
    response = alice.api.post(PLANS, {**ASK, "replica": 1})
    assert response.status_code == 400
    assert response.json()["errors"] == [
        {"field": "replica", "message": "There is no such field; did you mean 'replicas'?"}
    ]
    assert not Plan.objects.exists()


def test_a_model_that_was_not_imported_is_told_from_one_that_does_not_exist(
    alice: Person, market: Market
) -> None:
    Model.objects.create(
        publisher="tests", slug="later", name="Later", task="text-generation", license=market.model.license
    )
    messages = [
        alice.api.post(PLANS, {"model": name}).json()["errors"][0]["message"]
        for name in ("tests/later", "tests/never")
    ]
    assert messages[0].startswith(
        "No version of tests/later can be deployed yet. Nobody has imported it yet. Ask the provider's staff"
    )
    assert messages[1].startswith("No published model is called 'tests/never'.")


def test_an_unknown_flavor_is_answered_with_those_there_are(alice: Person, market: Market) -> None:
    response = alice.api.post(PLANS, {**ASK, "flavor": "huge"})
    assert response.status_code == 400
    assert response.json()["errors"] == [
        {"field": "flavor", "message": "'huge' does not exist. There are: test-large, test-small."}
    ]


@pytest.mark.parametrize(("regions", "end"), [(20, "r-18, test."), (21, "r-18, r-19 and 1 more.")])
def test_a_long_list_of_names_says_how_many_more_there_are(
    alice: Person, market: Market, regions: int, end: str
) -> None:
    Region.objects.bulk_create(Region(slug=f"r-{row:02}", name="A region") for row in range(regions - 1))
    answer = alice.api.post("/api/v1/plans/", {"model": "tests/chatter", "region": "mars"})
    message = answer.json()["errors"][0]["message"]
    assert message.startswith("'mars' does not exist. There are: r-00, r-01, ")
    assert message.endswith(end)


def test_a_context_longer_than_the_models_is_refused(alice: Person, market: Market) -> None:
    response = alice.api.post(PLANS, {**ASK, "context_length": 9000})
    assert response.json()["errors"] == [
        {"field": "context_length", "message": "Chatter supports at most 8192 tokens."}
    ]


def test_a_model_that_does_not_generate_is_left_its_own_context(alice: Person, market: Market) -> None:
    market.model.task = "feature-extraction"
    market.model.save()
    document = plan(alice)
    assert document["spec"]["context_length"] == 0
    assert document["memory"]["kv_cache"] == 0


def test_anothers_private_model_does_not_exist(alice: Person, charlie: Person, market: Market) -> None:
    market.model.owner = alice.organization
    market.model.save()
    assert plan(alice)["accepted"]
    response = charlie.api.post(PLANS, ASK)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "model"


@pytest.mark.parametrize("length", [2**24 + 1, 10**400])
def test_no_context_is_endless_although_the_models_own_limit_is_unknown(
    alice: Person, market: Market, length: int
) -> None:
    ModelVersion.objects.create(
        model=market.model,
        revision="c" * 40,
        files=market.version.files,
        storage_path="models/other",
        parameters=1_000,
        published_at=timezone.now(),
    )
    answer = alice.api.post("/api/v1/plans/", {"model": "tests/chatter", "context_length": length})
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["context_length"]


def test_a_plan_takes_as_many_queries_however_much_there_is(alice: Person, market: Market) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert plan(alice, flavor=None)["accepted"]
        return len(captured)

    plan(alice)  # notes the use of the key, once a minute
    few = queries()
    for number in range(5):
        flavor = Flavor.objects.get(pk=market.flavor.pk)
        flavor.pk, flavor.slug, flavor.public_id = None, f"more-{number}", f"flv_{number}"
        flavor.save()
        NodePool.objects.create(cluster=market.cluster, flavor=flavor, capacity=1)
        alice.api.post("/api/v1/deployments/", {"name": f"bot-{number}", **ASK})
    assert (few, queries()) == (9, 9)


def test_a_plan_tells_how_many_pools_each_condition_dropped(alice: Person, market: Market) -> None:
    told = {item["name"]: item for item in plan(alice)["filters"] if item["dropped"]}
    assert set(told) == {"flavor"}
    assert (told["flavor"]["before"], told["flavor"]["left"]) == (2, 1)
    assert told["flavor"]["reasons"] == ["1 × not the flavor test-small"]


def test_what_is_larger_than_any_node_is_one_clear_message(alice: Person, market: Market) -> None:
    ModelVersion.objects.create(
        model=market.model,
        revision="d" * 40,
        files=market.version.files,
        storage_path="models/huge",
        parameters=400_000_000_000,
        published_at=timezone.now() + timedelta(seconds=1),
    )
    huge = ModelVersion.objects.latest("published_at")
    Recipe.objects.create(
        version=huge,
        engine="transformers",
        accelerator_family="cpu",
        image="marketplace/runtime-cpu:test",
        precision="float32",
    )
    document = plan(alice, model=huge.public_id, flavor=None)
    assert not document["accepted"]
    memory = failed(document)["memory"]
    # The largest flavor there is, not whichever is cheapest.
    assert "test-large has 8.0 GiB" in memory["message"]
    assert memory["remedy"] == "Take a flavor with more memory."
    refused = alice.api.post("/api/v1/deployments/", {"name": "huge", "model": huge.public_id})
    assert refused.status_code == 409
    assert not Deployment.objects.exists()


def test_an_alternative_says_what_changes_and_what_it_costs(alice: Person, market: Market) -> None:
    document = plan(alice, context_length=8192, max_concurrency=64)
    kinds = {item["kind"]: item for item in document["alternatives"]}
    shorter = kinds["context_length"]
    assert shorter["changes"]["context_length"]["from"] == 8192
    assert shorter["per_hour_difference"] == "0"
    fits = plan(alice, context_length=shorter["changes"]["context_length"]["to"], max_concurrency=64)
    assert fits["accepted"]


def test_a_flavor_of_65_ipus_is_refused_in_one_message_and_blocks_no_other(
    alice: Person, market: Market
) -> None:
    chip = Accelerator.objects.create(
        slug="ipu", name="IPU", vendor="Any", family="cpu", memory_bytes=2**30, attachment="ipujob"
    )
    flavor = Flavor.objects.create(
        slug="ipu-65",
        name="65 IPUs",
        accelerator=chip,
        accelerator_count=65,
        vcpus=2,
        memory_bytes=4 * 2**30,
        machine_class="bare_metal",
    )
    NodePool.objects.create(cluster=market.cluster, flavor=flavor, capacity=1)
    placement = failed(plan(alice, flavor="ipu-65"))["placement"]
    assert "ipu-65 cannot be had: " in placement["message"]
    assert plan(alice, flavor=None)["accepted"]
