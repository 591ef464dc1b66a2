import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_django import Settings

from deployments.tuning.models import FineTuningJob
from deployments.tuning.results import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RESULT, ResultError, publish_result
from marketplace.catalog.models import License, Model, ModelVersion
from marketplace.catalog.storage import INCOMING, full_path
from tests.deployments.tuning.jobs import (
    CONFIG,
    add_tuning_recipe,
    make_job,
    safetensors_file,
    write_output,
)
from tests.market import Market
from tests.people import Person


@pytest.fixture(autouse=True)
def storage(settings: Settings, tmp_path: Path) -> Path:
    settings.STORAGE_ROOT = tmp_path
    return tmp_path


@pytest.fixture
def job(alice: Person, market: Market) -> FineTuningJob:
    add_tuning_recipe(market)
    return make_job(alice, market)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_result_is_a_private_adapter_of_its_base(job: FineTuningJob, market: Market, storage: Path) -> None:
    write_output(storage, job)
    version = publish_result(job=job)
    assert (str(version.model), version.model.owner, version.model.task) == (
        "acme/support",
        job.organization,
        "text-generation",
    )
    assert (version.is_adapter, version.parent, version.parameters, version.precision) == (
        True,
        market.version,
        4,
        "float32",
    )
    config, weights = CONFIG.encode(), safetensors_file()
    assert version.files == [
        {"path": ADAPTER_CONFIG, "bytes": len(config), "sha256": sha256(config)},
        {"path": ADAPTER_WEIGHTS, "bytes": len(weights), "sha256": sha256(weights)},
    ]
    assert version.published_at is not None
    assert sorted(path.name for path in full_path(version.storage_path).iterdir()) == [
        ADAPTER_CONFIG,
        ADAPTER_WEIGHTS,
    ]


def test_it_is_served_as_its_base_is_and_not_tuned_again(job: FineTuningJob, storage: Path) -> None:
    write_output(storage, job)
    recipes = publish_result(job=job).recipes.values_list("engine", "accelerator_family", "image")
    assert list(recipes) == [("transformers", "cpu", "marketplace/runtime-cpu:test")]


def test_publishing_again_changes_nothing(job: FineTuningJob, storage: Path) -> None:
    write_output(storage, job)
    first = publish_result(job=job)
    assert publish_result(job=job) == first
    assert (ModelVersion.objects.filter(is_adapter=True).count(), first.recipes.count()) == (1, 1)


class TakenOver(Exception):
    """As a lease that is lost."""


def test_an_attempt_that_is_overtaken_ends_and_leaves_what_the_other_has_published(
    job: FineTuningJob, storage: Path
) -> None:
    write_output(storage, job)
    published: list[ModelVersion] = []

    def be_overtaken() -> None:
        if published:
            raise TakenOver
        published.append(publish_result(job=job))

    with pytest.raises(TakenOver):
        publish_result(job=job, renew=be_overtaken)
    (version,) = published
    assert list(ModelVersion.objects.filter(is_adapter=True)) == [version]
    assert (full_path(version.storage_path) / ADAPTER_WEIGHTS).read_bytes() == safetensors_file()
    assert list((storage / INCOMING).iterdir()) == []


def test_what_a_dead_attempt_has_left_is_removed(job: FineTuningJob, storage: Path) -> None:
    write_output(storage, job)
    left = storage / INCOMING / f"result-{job.public_id}-0123"
    left.mkdir(parents=True)
    (left / f"{ADAPTER_WEIGHTS}.part").write_bytes(b"half")
    publish_result(job=job)
    assert list((storage / INCOMING).iterdir()) == []


def test_a_second_job_of_the_same_name_adds_a_version(
    job: FineTuningJob, alice: Person, market: Market, storage: Path
) -> None:
    write_output(storage, job)
    other = make_job(alice, market)
    (write_output(storage, other) / ADAPTER_WEIGHTS).write_bytes(safetensors_file(8))
    versions = [publish_result(job=each) for each in (job, other)]
    assert versions[0].model == versions[1].model
    assert versions[0].revision != versions[1].revision


def test_a_public_model_of_the_same_name_is_not_touched(job: FineTuningJob, storage: Path) -> None:
    public = Model.objects.create(
        publisher="acme",
        slug="support",
        name="Public",
        task="text-generation",
        license=License.objects.get(slug="test-license"),
    )
    write_output(storage, job)
    version = publish_result(job=job)
    assert (version.model != public, version.model.owner) == (True, job.organization)
    assert not public.versions.exists()


def add(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data)


def link_weights(folder: Path) -> None:
    (folder / ADAPTER_WEIGHTS).unlink()
    (folder / ADAPTER_WEIGHTS).symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / RESULT).unlink(), "no result.json"),
        (lambda folder: (folder / ADAPTER_CONFIG).unlink(), "no adapter_config.json"),
        (add("optimizer.pt", b"\x80\x04"), "'optimizer.pt'"),
        (add("run.py", b"print()"), "'run.py'"),
        (add(ADAPTER_WEIGHTS, b"\x80\x04pickle"), "a Python pickle"),
        (add(ADAPTER_WEIGHTS, safetensors_file()[:-1]), "not a whole safetensors file"),
        (add(ADAPTER_CONFIG, b"[]"), "does not describe a LoRA adapter"),
        (add(ADAPTER_CONFIG, b'{"peft_type": "LORA", "auto_mapping": {"parent_library": "x"}}'), "code"),
        (link_weights, "a link that leads out"),
    ],
)
def test_an_output_that_is_not_whole_or_not_safe_is_refused(
    job: FineTuningJob, storage: Path, change: Callable[[Path], object], message: str
) -> None:
    change(write_output(storage, job))
    with pytest.raises(ResultError, match=message):
        publish_result(job=job)
    assert not ModelVersion.objects.filter(is_adapter=True).exists()
