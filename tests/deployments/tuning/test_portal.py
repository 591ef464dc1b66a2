from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from pytest_django import Settings

from deployments.tuning.models import Dataset, FineTuningJob
from tests.deployments.tuning.jobs import add_tuning_recipe, make_job
from tests.deployments.tuning.test_datasets import lines
from tests.market import Market
from tests.people import Person

PAGE = "/fine-tuning/"


@pytest.fixture(autouse=True)
def storage(settings: Settings, tmp_path: Path) -> Path:
    settings.STORAGE_ROOT = tmp_path
    return tmp_path


def test_data_is_uploaded_and_a_job_started(alice: Person, market: Market) -> None:
    add_tuning_recipe(market)
    file = SimpleUploadedFile("x.jsonl", b"\n".join(lines()))
    alice.browser.post(PAGE, {"action": "upload", "upload-name": "support", "upload-file": file})
    dataset = Dataset.objects.get()
    started = alice.browser.post(
        PAGE,
        {
            "action": "start",
            "job-name": "tuned",
            "job-model": market.version.public_id,
            "job-training_dataset": dataset.public_id,
            "job-validation_dataset": "",
            "job-flavor": "test-small",
            "job-epochs": "2",
        },
    )
    job = FineTuningJob.objects.get()
    assert started.url == f"{PAGE}{job.public_id}/"
    assert job.hyperparameters["epochs"] == 2
    assert "tuned" in alice.browser.get(PAGE).content.decode()


def test_a_bad_line_is_an_error_of_the_file(alice: Person, market: Market) -> None:
    file = SimpleUploadedFile("x.jsonl", b"\n".join([*lines(), b"not json"]))
    page = alice.browser.post(PAGE, {"action": "upload", "upload-name": "support", "upload-file": file})
    assert "Line 9: The line is not JSON" in page.content.decode()
    assert not Dataset.objects.exists()


def test_a_job_shows_its_progress_and_is_cancelled(alice: Person, market: Market) -> None:
    add_tuning_recipe(market)
    job = make_job(alice, market)
    FineTuningJob.objects.update(progress={"step": 3, "total_steps": 9, "loss": 1.25})
    path = f"{PAGE}{job.public_id}/"
    assert "step 3 of 9" in alice.browser.get(path).content.decode()
    alice.browser.post(path)
    assert FineTuningJob.objects.get().desired_state == "cancelled"


def test_a_stranger_finds_nothing(alice: Person, charlie: Person, market: Market) -> None:
    add_tuning_recipe(market)
    job = make_job(alice, market)
    path = f"{PAGE}{job.public_id}/"
    assert [charlie.browser.get(path).status_code, charlie.browser.post(path).status_code] == [404, 404]
