"""Customers remove what is theirs, and its files go once nothing needs them."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from pytest_django import Settings

from deployments.serving.errors import WishRefused
from deployments.serving.lifecycle import create_deployment
from deployments.serving.models import Deployment, Plan, Revision
from deployments.tuning.models import Dataset, DatasetVersion, FineTuningJob
from deployments.tuning.pruning import prune_storage
from deployments.tuning.results import publish_result
from marketplace.accounts.actors import Actor
from marketplace.accounts.models import AuditEvent
from marketplace.catalog.models import Model, ModelImport, ModelVersion
from marketplace.catalog.removal import keep_model, remove_model
from tests.deployments.tuning.jobs import make_job, write_output
from tests.market import Market
from tests.people import Person


@pytest.fixture
def storage(tmp_path: Path, settings: Settings) -> Path:
    """The storage root; files count as old at once."""
    settings.STORAGE_ROOT = tmp_path
    settings.PRUNE_AFTER_SECONDS = -1
    return tmp_path


def tuned(person: Person, market: Market, storage: Path, *, name: str = "support") -> ModelVersion:
    """A private version that a job of the person has made, on disk and in the catalog."""
    job = make_job(person, market, name=name, state="succeeded")
    write_output(storage, job)
    return publish_result(job=job)


def address(model: Model) -> str:
    return f"/api/v1/models/{model.public_id}/"


def deploy(person: Person, version: ModelVersion) -> str:
    wish = {"name": "bot", "model": version.public_id, "flavor": "test-small"}
    answer = person.api.post("/api/v1/deployments/", wish)
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")


def test_a_tuned_model_is_removed_with_its_files(alice: Person, market: Market, storage: Path) -> None:
    version = tuned(alice, market, storage)
    assert alice.api.delete(address(version.model)).status_code == 204
    assert alice.api.get(address(version.model)).status_code == 404
    assert "support" not in alice.api.get("/api/v1/models/").content.decode()
    assert AuditEvent.objects.latest("id").action == "model.delete"
    assert version.storage_path in prune_storage()
    assert not (storage / version.storage_path).exists()
    wish = {"name": "bot", "model": version.public_id}
    assert alice.api.post("/api/v1/deployments/", wish).status_code == 400


def test_a_model_that_a_deployment_runs_is_not_removed(alice: Person, market: Market, storage: Path) -> None:
    version = tuned(alice, market, storage)
    deployment = deploy(alice, version)
    answer = alice.api.delete(address(version.model))
    assert refusal(answer) == (409, "model-in-use")
    assert answer.json()["uses"] == [{"id": deployment, "name": "bot", "what": "deployment"}]
    assert answer.json()["detail"] == (
        f"acme/support is used by deployment bot ({deployment}). Delete that first."
    )
    alice.api.delete(f"/api/v1/deployments/{deployment}/")
    assert alice.api.delete(address(version.model)).status_code == 204
    # Its pods may still read.
    assert version.storage_path not in prune_storage()
    Deployment.objects.update(deleted_at=timezone.now())
    assert version.storage_path in prune_storage()


def test_a_model_that_was_removed_since_it_was_planned_is_not_deployed(
    alice: Person, market: Market, storage: Path
) -> None:
    version = tuned(alice, market, storage)
    ask = {"model": version.public_id, "flavor": "test-small"}
    planned = alice.api.post("/api/v1/plans/", ask).json()["id"]
    actor = Actor(organization=alice.organization, user=alice.user, api_key=None, scopes=frozenset())
    remove_model(actor=actor, model=version.model)
    # As if the removal had come after the plan was looked at again.
    with pytest.raises(WishRefused, match="deleted by your organization") as refused:
        create_deployment(actor=actor, plan=Plan.objects.get(public_id=planned), name="bot")
    assert (refused.value.type, Deployment.objects.count()) == ("model-deleted", 0)


@pytest.mark.django_db(transaction=True)
def test_a_model_is_not_removed_while_a_deployment_of_it_is_being_made(
    alice: Person, market: Market, storage: Path
) -> None:
    version = tuned(alice, market, storage)
    actor = Actor(organization=alice.organization, user=alice.user, api_key=None, scopes=frozenset())
    busy: list[Exception] = []

    def remove() -> None:
        with closing(connection), connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '200ms'")
            try:
                remove_model(actor=actor, model=version.model)
            except OperationalError as error:
                busy.append(error)

    with transaction.atomic():
        assert keep_model(version.model)
        remover = threading.Thread(target=remove)
        remover.start()
        remover.join()
    assert "lock timeout" in str(busy[0])
    assert alice.api.delete(address(version.model)).status_code == 204
    with transaction.atomic():
        assert not keep_model(version.model)


def test_a_revision_that_may_come_back_keeps_its_model(alice: Person, market: Market, storage: Path) -> None:
    version = tuned(alice, market, storage)
    deployment = deploy(alice, version)
    Deployment.objects.update(serving_revision=1, fallback_revision=1)
    alice.api.patch(f"/api/v1/deployments/{deployment}/", {"model": market.version.public_id})
    assert refusal(alice.api.delete(address(version.model))) == (409, "model-in-use")
    Deployment.objects.update(serving_revision=2, fallback_revision=2)
    assert alice.api.delete(address(version.model)).status_code == 204

    body = {"revision": 1, "dry_run": True}
    preview = alice.api.post(f"/api/v1/deployments/{deployment}/rollback/", body).json()["preview"]
    assert (preview["possible"], preview["reasons"][0]["name"]) == (False, "weights")
    assert "was deleted by your organization" in preview["reasons"][0]["message"]


def test_files_that_another_model_shares_stay(
    alice: Person, charlie: Person, market: Market, storage: Path
) -> None:
    mine, theirs = tuned(alice, market, storage), tuned(charlie, market, storage)
    assert mine.storage_path == theirs.storage_path
    alice.api.delete(address(mine.model))
    assert mine.storage_path not in prune_storage()
    charlie.api.delete(address(theirs.model))
    assert mine.storage_path in prune_storage()


def test_the_name_of_a_removed_model_is_free_again(alice: Person, market: Market, storage: Path) -> None:
    first = tuned(alice, market, storage)
    alice.api.delete(address(first.model))
    second = tuned(alice, market, storage)
    assert (second.model.slug, second.model == first.model) == ("support", False)


def test_only_ones_own_models_are_removed(
    alice: Person, bob: Person, charlie: Person, market: Market, storage: Path
) -> None:
    version = tuned(alice, market, storage)
    assert refusal(alice.api.delete(address(market.model))) == (403, "not-yours")
    assert refusal(bob.api.delete(address(version.model))) == (403, "scope-missing")
    assert charlie.api.delete(address(version.model)).status_code == 404
    assert not Model.objects.filter(deleted_at__isnull=False).exists()


def test_a_model_that_others_were_tuned_from_is_not_removed(
    alice: Person, market: Market, storage: Path
) -> None:
    version = tuned(alice, market, storage)
    child = Model.objects.create(
        publisher="acme",
        slug="child",
        name="Child",
        owner=alice.organization,
        task="text-generation",
        license=market.model.license,
    )
    ModelVersion.objects.create(model=child, revision="d" * 40, parent=version, is_adapter=True)
    answer = alice.api.delete(address(version.model))
    assert answer.json()["uses"] == [{"id": child.public_id, "name": "acme/child", "what": "model"}]


def test_a_job_that_goes_on_keeps_what_it_reads(alice: Person, market: Market, storage: Path) -> None:
    job = make_job(alice, market, state="running")
    data = DatasetVersion.objects.get()
    path = storage / "datasets" / alice.organization.public_id / "x.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    DatasetVersion.objects.update(storage_path=path.relative_to(storage).as_posix())
    assert alice.api.delete(f"/api/v1/datasets/{data.dataset.public_id}/").status_code == 204
    assert prune_storage() == []
    FineTuningJob.objects.filter(pk=job.pk).update(state="succeeded")
    assert prune_storage() == [path.relative_to(storage).as_posix()]


def test_a_dataset_file_that_another_dataset_shares_stays(
    alice: Person, market: Market, storage: Path
) -> None:
    shared = f"datasets/{alice.organization.public_id}/{'e' * 64}.jsonl"
    (storage / shared).parent.mkdir(parents=True)
    (storage / shared).write_text("{}")
    for name in ("one", "two"):
        dataset = Dataset.objects.create(organization=alice.organization, name=name)
        DatasetVersion.objects.create(
            dataset=dataset, digest="e" * 64, storage_path=shared, bytes=2, report={}
        )
    Dataset.objects.filter(name="one").update(deleted_at=timezone.now())
    assert prune_storage() == []
    Dataset.objects.update(deleted_at=timezone.now())
    assert prune_storage() == [shared]


def test_a_job_is_deleted_only_after_its_end(alice: Person, market: Market, storage: Path) -> None:
    job = make_job(alice, market, state="running")
    path = f"/api/v1/fine-tuning-jobs/{job.public_id}/"
    assert refusal(alice.api.delete(path)) == (409, "job-goes-on")
    FineTuningJob.objects.update(state="failed")
    assert alice.api.delete(path).status_code == 202
    assert alice.api.get("/api/v1/fine-tuning-jobs/").json()["items"] == []
    assert alice.api.get(f"{path}deletion/").json()["resource"] == job.public_id
    assert [event.action for event in AuditEvent.objects.order_by("-id")[:1]] == ["fine-tuning-job.delete"]


def test_outputs_go_with_their_job_and_once_they_are_published(
    alice: Person, market: Market, storage: Path
) -> None:
    states = {"failed": False, "running": False, "succeeded": True}
    jobs = {state: make_job(alice, market, name=state, state=state) for state in states}
    for job in jobs.values():
        write_output(storage, job)
    assert prune_storage() == [f"outputs/{jobs['succeeded'].public_id}"]
    FineTuningJob.objects.filter(state="failed").update(deleted_at=timezone.now())
    assert prune_storage() == [f"outputs/{jobs['failed'].public_id}"]


def test_what_died_on_its_way_in_is_removed_and_what_goes_on_is_not(
    alice: Person, market: Market, storage: Path
) -> None:
    going = ModelImport.objects.create(source="hub:a/b", model=market.model, state="running")
    incoming = storage / "models" / ".incoming"
    for name in (going.public_id, "imp_dead", "result-ftj_dead-1"):
        (incoming / name).mkdir(parents=True)
    (storage / "datasets").mkdir()
    (storage / "datasets" / ".incoming-dead").write_text("{")
    assert sorted(prune_storage()) == [
        "datasets/.incoming-dead",
        "models/.incoming/imp_dead",
        "models/.incoming/result-ftj_dead-1",
    ]


def test_what_is_young_and_what_is_not_ours_stays(
    alice: Person, market: Market, storage: Path, settings: Settings
) -> None:
    version = tuned(alice, market, storage)
    (storage / "models" / "of-nobody").mkdir()
    alice.api.delete(address(version.model))
    settings.PRUNE_AFTER_SECONDS = 3600
    # Its time on disk counts, which nobody can set back.
    os.utime(storage / version.storage_path, (time.time() - 86_400,) * 2)
    assert prune_storage() == []
    settings.PRUNE_AFTER_SECONDS = -1
    prune_storage()
    assert (storage / "models" / "of-nobody").is_dir()


def test_a_stored_folder_that_is_published_again_is_young(
    alice: Person, market: Market, storage: Path
) -> None:
    version = tuned(alice, market, storage)
    before = (storage / version.storage_path).stat().st_ctime_ns
    tuned(alice, market, storage, name="again")
    assert (storage / version.storage_path).stat().st_ctime_ns > before
    assert Revision.objects.count() == 0
