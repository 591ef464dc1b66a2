"""REST of the catalog and of hardware, as customers, strangers and staff see it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django import Settings

from marketplace.accounts.models import AuditEvent
from marketplace.catalog.imports import Outcome, advance
from marketplace.catalog.models import License, Model, ModelImport, ModelVersion
from marketplace.catalog.recipes import attach_recipes
from marketplace.catalog.versions import publish_folder
from marketplace.hardware.models import Cluster, Flavor
from tests.hub.server import Hub
from tests.hub.tiny import tiny_model, write_files
from tests.people import Person

pytestmark = pytest.mark.django_db

MODELS = "/api/v1/models/"


@pytest.fixture
def seeded(db: None) -> None:
    call_command("seed", "--no-weights", stdout=io.StringIO())


@pytest.fixture
def published(seeded: None, storage: Path, tmp_path: Path) -> ModelVersion:
    """SmolLM2 with tiny weights."""
    model = Model.objects.get(slug="smollm2-135m-instruct")
    return publish_folder(model, write_files(tmp_path / "model", tiny_model()))


def slugs(answer) -> list[str]:
    assert answer.status_code == 200, answer.json()
    return [item["slug"] for item in answer.json()["items"]]


def test_it_lists_models_by_publisher(alice: Person, seeded: None):
    items = alice.api.get(MODELS).json()["items"]
    names = [(item["publisher"], item["slug"]) for item in items]
    assert names == sorted(names)
    assert len(names) == Model.objects.count()


@pytest.mark.parametrize(
    ("query", "found", "left_out"),
    [
        ("task=text-to-image", "openjourney", "whisper-base"),
        ("publisher=openai", "whisper-base", "openjourney"),
        ("license=mit", "bark", "whisper-base"),
        ("gated=true", "llama-3.1-8b-instruct", "whisper-base"),
        ("commercial_use=false", "flux.1-dev", "whisper-base"),
        ("tag=code", "starcoder2-7b", "whisper-base"),
        ("search=stable diffusion xl", "stable-diffusion-xl-base-1.0", "stable-diffusion-v1-5"),
        ("runnable=true", "smollm2-135m-instruct", "whisper-base"),
        ("runnable=false", "whisper-base", "smollm2-135m-instruct"),
        ("private=false", "whisper-base", "house-model"),
        ("private=true", "house-model", "whisper-base"),
    ],
)
def test_it_filters(alice: Person, published: ModelVersion, query: str, found: str, left_out: str):
    Model.objects.create(
        publisher="acme",
        slug="house-model",
        name="House model",
        owner=alice.organization,
        task="text-generation",
        license=License.objects.get(slug="mit"),
        tags=["house"],
    )
    listed = slugs(alice.api.get(f"{MODELS}?{query}"))
    assert found in listed
    assert left_out not in listed


@pytest.mark.parametrize("query", ["task=poetry", "tsak=text-generation", "gated=maybe"])
def test_it_refuses_filters_it_does_not_understand(alice: Person, query: str):
    answer = alice.api.get(f"{MODELS}?{query}")
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/invalid-request")


def test_a_model_shows_its_versions_recipes_and_cheapest_price(alice: Person, published: ModelVersion):
    document = alice.api.get(f"{MODELS}{published.model.public_id}/").json()
    assert (document["runnable"], document["parameters"], document["precision"]) == (True, 10_256, "bfloat16")
    assert document["price_from"] == {
        "flavor": "cpu-small",
        "region": "local",
        "currency": "USD",
        "per_second": "0.000015",
        "per_minute": "0.0009",
        "per_hour": "0.054",
        "per_day": "1.296",
        "per_month": "39.42",
    }
    version = document["versions"][0]
    assert (version["id"], version["revision"]) == (published.public_id, published.revision)
    assert [file["path"] for file in version["files"]] == sorted(tiny_model())
    assert {"engine": "tune-lora", "image": "marketplace/tune-cpu:0.1.0"}.items() <= next(
        recipe for recipe in version["recipes"] if recipe["engine"] == "tune-lora"
    ).items()


def test_a_model_without_weights_shows_what_its_maker_says(alice: Person, seeded: None):
    model = Model.objects.get(slug="qwen3-8b")
    document = alice.api.get(f"{MODELS}{model.public_id}/").json()
    assert (document["parameters"], document["precision"], document["context_length"]) == (
        8_190_735_360,
        "bfloat16",
        40_960,
    )
    assert (document["runnable"], document["price_from"]) == (False, None)


def test_nothing_runs_here_when_the_cluster_is_closed(alice: Person, published: ModelVersion):
    Cluster.objects.update(enabled=False)
    document = alice.api.get(f"{MODELS}{published.model.public_id}/").json()
    assert (document["runnable"], document["price_from"]) == (False, None)
    assert slugs(alice.api.get("/api/v1/flavors/?region=local")) == []


def test_an_adapter_runs_by_what_it_was_tuned_from(alice: Person, published: ModelVersion):
    tuned = Model.objects.create(
        publisher="acme",
        slug="tuned",
        name="Tuned",
        owner=alice.organization,
        task="text-generation",
        license=published.model.license,
    )
    ModelVersion.objects.create(
        model=tuned,
        parent=published,
        is_adapter=True,
        revision="2" * 40,
        parameters=published.parameters,
        published_at=published.published_at,
    )
    document = alice.api.get(f"{MODELS}{tuned.public_id}/").json()
    assert (document["private"], document["runnable"]) == (True, True)
    assert document["price_from"]["flavor"] == "cpu-small"
    assert document["versions"][0]["parent"] == published.public_id


def test_a_private_model_is_not_there_for_a_stranger(
    alice: Person, bob: Person, charlie: Person, entry: Model
):
    Model.objects.filter(pk=entry.pk).update(owner=alice.organization)
    path = f"{MODELS}{entry.public_id}/"
    assert bob.api.get(path).status_code == 200
    hidden, unknown = charlie.api.get(path), charlie.api.get(f"{MODELS}mdl_unknown/")
    assert hidden.status_code == unknown.status_code == 404
    assert {**hidden.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}
    assert slugs(charlie.api.get(MODELS)) == []


def test_an_unlisted_model_is_not_shown(alice: Person, entry: Model):
    Model.objects.update(listed=False)
    assert slugs(alice.api.get(MODELS)) == []
    assert alice.api.get(f"{MODELS}{entry.public_id}/").status_code == 404


def test_a_list_costs_the_same_number_of_queries_however_long_it_is(
    alice: Person, published: ModelVersion, django_assert_max_num_queries: Callable
):
    api = alice.api
    with django_assert_max_num_queries(20):
        assert len(slugs(api.get(MODELS))) > 40


@pytest.mark.parametrize(
    "path",
    ["models/", "frameworks/", "licenses/", "flavors/", "regions/", "accelerators/", "imports/"],
)
def test_nothing_is_shown_without_a_key(anonymous, seeded: None, path: str):
    assert anonymous.get(f"/api/v1/{path}").status_code == 401


def test_frameworks_and_licenses_are_read_by_slug(alice: Person, seeded: None):
    assert "poplar" in slugs(alice.api.get("/api/v1/frameworks/?accelerator_family=ipu"))
    assert alice.api.get("/api/v1/frameworks/poplar/").json()["license"]["slug"] == "graphcore-eula"
    assert alice.api.get("/api/v1/licenses/openrail++/").json()["commercial_use"] is True
    assert "cc-by-nc-4.0" in slugs(alice.api.get("/api/v1/licenses/?commercial_use=false"))


def test_a_flavor_shows_what_it_is_where_it_is_and_what_it_costs(alice: Person, seeded: None):
    flavor = Flavor.objects.get(slug="cpu-small")
    by_slug = alice.api.get("/api/v1/flavors/cpu-small/").json()
    assert by_slug == alice.api.get(f"/api/v1/flavors/{flavor.public_id}/").json()
    assert (by_slug["vcpus"], by_slug["memory_bytes"], by_slug["regions"]) == ("2.00", 4 * 2**30, ["local"])
    local = next(price for price in by_slug["prices"] if price["region"] == "local")
    assert (local["currency"], local["per_minute"], local["per_month"]) == ("USD", "0.0009", "39.42")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("family=ipu&machine_class=bare_metal", ["bow-pod16-metal", "c600-4-metal", "ipu-pod16-metal"]),
        ("accelerator=nvidia-b200", ["b200-8-metal"]),
        ("region=local", ["cpu-small"]),
    ],
)
def test_flavors_are_filtered(alice: Person, seeded: None, query: str, found: list[str]):
    assert slugs(alice.api.get(f"/api/v1/flavors/?{query}")) == found


def test_regions_say_whether_they_take_workloads(alice: Person, seeded: None):
    items = alice.api.get("/api/v1/regions/").json()["items"]
    assert {item["slug"]: item["available"] for item in items} == {
        "amsterdam-1": False,
        "local": True,
        "luxembourg-1": False,
        "newport-1": False,
    }
    assert alice.api.get("/api/v1/accelerators/nvidia-h200/").json()["peak_tflops"]["bfloat16"] == 989.0


@pytest.fixture
def staff(alice: Person) -> Person:
    alice.user.is_staff = True
    alice.user.save()
    return alice


def test_staff_import_a_model_by_rest(
    staff: Person,
    hub: Hub,
    storage: Path,
    entry: Model,
    django_capture_on_commit_callbacks: Callable,
    monkeypatch,
):
    hub.add("tiny/llama", tiny_model())
    rung: list[str] = []
    monkeypatch.setattr("marketplace.catalog.tasks.advance_import.delay", rung.append)
    with django_capture_on_commit_callbacks(execute=True):
        answer = staff.api.post("/api/v1/imports/", {"model": "tiny/llama", "revision": "v1"})
    assert answer.status_code == 202, answer.json()
    started = answer.json()
    assert rung == [started["id"]]
    assert (started["state"], started["model"], started["source"]) == (
        "queued",
        entry.public_id,
        "hub:tiny/llama",
    )
    assert AuditEvent.objects.get(action="import.start").target == started["id"]
    assert advance(started["id"]) is Outcome.ENDED
    done = staff.api.get(f"/api/v1/imports/{started['id']}/").json()
    assert (done["state"], done["revision"], done["error"]) == ("succeeded", "1" * 40, "")
    assert done["bytes_done"] == done["bytes_total"] > 0
    assert done["version"] == ModelVersion.objects.get().public_id


@pytest.mark.parametrize(
    ("case", "body", "field"),
    [
        ("a model that is not there", {"model": "tiny/unknown"}, "model"),
        ("a source that is none", {"model": "tiny/llama", "source": "tiny/llama"}, "source"),
        ("a folder that is not open", {"model": "tiny/llama", "source": "folder:/etc"}, "source"),
        ("a misspelt field", {"model": "tiny/llama", "sorce": "hub:tiny/llama"}, "sorce"),
    ],
)
def test_a_wrong_import_is_refused_by_its_field(
    staff: Person, entry: Model, settings: Settings, case: str, body: dict[str, str], field: str
):
    answer = staff.api.post("/api/v1/imports/", body)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert not ModelImport.objects.exists()


def test_customers_do_not_import(alice: Person, entry: Model):
    for answer in (
        alice.api.post("/api/v1/imports/", {"model": "tiny/llama"}),
        alice.api.get("/api/v1/imports/"),
    ):
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/staff-only")
    assert not ModelImport.objects.exists()


def test_recipes_that_staff_changed_stay(published: ModelVersion):
    published.recipes.filter(engine="transformers").update(image="ours:1")
    assert attach_recipes([published]) == 0
    assert published.recipes.filter(image="ours:1").count() == 2
