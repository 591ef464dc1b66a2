from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from deployments.serving.models import Event
from deployments.tuning.models import DatasetVersion, FineTuningJob
from marketplace.billing.models import Quota
from marketplace.catalog.models import ModelVersion
from marketplace.hardware.models import Flavor
from tests.deployments.tuning.jobs import add_tuning_recipe
from tests.deployments.tuning.test_datasets import lines, upload
from tests.market import Market
from tests.people import Person

JOBS = "/api/v1/fine-tuning-jobs/"


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, settings: Settings) -> Path:
    settings.STORAGE_ROOT = tmp_path
    return tmp_path


@pytest.fixture
def tunable(market: Market) -> Market:
    add_tuning_recipe(market)
    return market


def ask(person: Person, **changes: Any) -> dict[str, Any]:
    dataset = upload(person, b"\n".join(lines())).json()["id"]
    return {
        "name": "tuned",
        "model": "tests/chatter",
        "training_dataset": dataset,
        "flavor": "test-small",
        **changes,
    }


def test_a_job_is_a_wish_with_a_complete_specification(alice: Person, tunable: Market) -> None:
    response = alice.api.post(JOBS, ask(alice, hyperparameters={"epochs": 2}))
    document = response.json()
    assert response.status_code == 201, document
    assert document["state"] == "queued"
    assert document["hyperparameters"]["epochs"] == 2
    assert document["cost"] == {"amount": "0", "currency": "EUR"}
    spec = FineTuningJob.objects.get().spec
    version = DatasetVersion.objects.get()
    assert spec["image"] == "marketplace/tune-cpu:test"
    assert spec["environment"]["RUNTIME_EPOCHS"] == "2"
    assert spec["environment"]["RUNTIME_JOB"] == document["id"]
    assert spec["mounts"] == [
        {"sub_path": "models/chatter", "mount_path": "/model", "read_only": True},
        {"sub_path": version.storage_path, "mount_path": "/data/train.jsonl", "read_only": True},
        {"sub_path": f"outputs/{document['id']}", "mount_path": "/output", "read_only": False},
    ]


def test_a_job_that_names_a_dataset_gets_the_version_uploaded_last(alice: Person, tunable: Market) -> None:
    body = ask(alice)
    first = DatasetVersion.objects.get()
    upload(alice, b"\n".join(lines(word="Reply")))
    upload(alice, b"\n".join(lines()))
    job = alice.api.post(JOBS, body).json()
    assert FineTuningJob.objects.get(public_id=job["id"]).training_data == first


def test_an_estimate_changes_nothing(alice: Person, tunable: Market) -> None:
    estimate = alice.api.post(f"{JOBS}estimate/", ask(alice)).json()
    assert estimate["seconds_low"] < estimate["seconds"] < estimate["seconds_high"]
    assert estimate["currency"] == "EUR"
    assert estimate["memory_bytes"] < estimate["memory_available_bytes"]
    assert not FineTuningJob.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "Not a name"}, "name"),
        ({"model": "tests/nothing"}, "model"),
        ({"training_dataset": "dst_nothing"}, "training_dataset"),
        ({"hyperparameters": {"epochs": 0}}, "hyperparameters.epochs"),
        ({"hyperparameters": {"epoch": 1}}, "hyperparameters.epoch"),
        ({"hyperparameters": {"max_length": 9000, "batch_tokens": 9000}}, "hyperparameters.max_length"),
        ({"hyperparameters": {"batch_tokens": 63}}, "hyperparameters.batch_tokens"),
        ({"hyperparameters": {"learning_rate": 1}}, "hyperparameters.learning_rate"),
        ({"hyperparameters": {"learning_rate": "nan"}}, "hyperparameters.learning_rate"),
        ({"flavor": "huge"}, "flavor"),
        ({"flavors": "test-small"}, "flavors"),
    ],
)
def test_a_wrong_field_is_named_and_no_job_is_made(
    alice: Person, tunable: Market, changes: dict[str, Any], field: str
) -> None:
    response = alice.api.post(JOBS, ask(alice, **changes))
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert not FineTuningJob.objects.exists()


def refusal(person: Person, **changes: Any) -> tuple[int, str]:
    response = person.api.post(JOBS, ask(person, **changes))
    return response.status_code, response.json()["type"]


def test_a_model_without_a_way_to_tune_it_is_refused(alice: Person, market: Market) -> None:
    assert refusal(alice) == (409, "/problems/not-tunable")


def test_a_flavor_that_is_not_sold_is_refused(alice: Person, tunable: Market) -> None:
    assert refusal(alice, flavor="test-large") == (409, "/problems/not-sold")


def test_what_does_not_fit_is_refused_before_anything_is_billed(alice: Person, tunable: Market) -> None:
    Flavor.objects.update(memory_bytes=2**30)
    assert refusal(alice) == (409, "/problems/does-not-fit")


def test_a_second_job_of_the_name_waits_for_the_first(alice: Person, tunable: Market) -> None:
    assert alice.api.post(JOBS, ask(alice)).status_code == 201
    assert refusal(alice) == (409, "/problems/name-taken")
    FineTuningJob.objects.update(state="succeeded")
    assert alice.api.post(JOBS, ask(alice)).status_code == 201


def test_a_job_counts_against_the_quota(alice: Person, tunable: Market) -> None:
    Quota.objects.create(organization=alice.organization, accelerator_family="cpu", limit=3)
    assert alice.api.post(JOBS, ask(alice)).status_code == 201
    assert refusal(alice, name="second") == (409, "/problems/quota-exceeded")


def test_what_is_itself_tuned_is_refused(alice: Person, tunable: Market) -> None:
    ModelVersion.objects.create(
        model=tunable.model,
        parent=tunable.version,
        is_adapter=True,
        revision="d" * 40,
        storage_path="models/x",
        published_at=tunable.version.published_at,
    )
    newest = ModelVersion.objects.get(is_adapter=True).public_id
    assert refusal(alice, model=newest) == (409, "/problems/base-is-tuned")


def test_the_training_data_does_not_validate_itself(alice: Person, tunable: Market) -> None:
    body = ask(alice)
    response = alice.api.post(JOBS, {**body, "validation_dataset": body["training_dataset"]})
    assert response.json()["errors"][0]["field"] == "validation_dataset"


def test_anothers_dataset_does_not_exist(alice: Person, charlie: Person, tunable: Market) -> None:
    theirs = ask(charlie)["training_dataset"]
    response = alice.api.post(JOBS, ask(alice, training_dataset=theirs))
    assert response.json()["errors"][0]["field"] == "training_dataset"


def test_cancelling_is_a_wish_made_once(alice: Person, tunable: Market) -> None:
    job = alice.api.post(JOBS, ask(alice)).json()
    for _ in range(2):
        assert alice.api.post(f"{JOBS}{job['id']}/cancel/").status_code == 200
    row = FineTuningJob.objects.get()
    assert (row.desired_state, row.generation) == ("cancelled", 2)
    assert row.stop_requested_at is not None
    reasons = Event.objects.filter(resource=job["id"]).order_by("id").values_list("reason", flat=True)
    assert list(reasons) == ["Created", "CancelRequested"]


def test_what_has_ended_cannot_be_cancelled(alice: Person, tunable: Market) -> None:
    job = alice.api.post(JOBS, ask(alice)).json()
    FineTuningJob.objects.update(state="succeeded")
    response = alice.api.post(f"{JOBS}{job['id']}/cancel/")
    assert (response.status_code, response.json()["type"]) == (409, "/problems/job-ended")


def test_a_stranger_finds_no_job(alice: Person, charlie: Person, tunable: Market) -> None:
    job = alice.api.post(JOBS, ask(alice)).json()
    paths = [f"{JOBS}{job['id']}/{part}" for part in ("", "events/", "training-events/", "checkpoints/")]
    assert [charlie.api.get(path).status_code for path in paths] == [404] * 4
    assert charlie.api.post(f"{JOBS}{job['id']}/cancel/").status_code == 404
