"""A provider's own file of places, and what is said of one that cannot be used."""

from __future__ import annotations

import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from marketplace.billing.models import Price
from marketplace.hardware.models import Accelerator, Cluster, Flavor, NodePool, Region

pytestmark = pytest.mark.django_db

EXAMPLE = Path(__file__).parents[3] / "deployments" / "samples" / "places.toml"
SMALL = """
currency = "EUR"
valid_from = 2026-01-01T00:00:00Z

[[accelerator]]
slug = "acme-x1"
name = "Acme X1"
vendor = "Acme"
family = "cuda"
memory_gb = 96
resource_name = "acme.example/x1"

[[flavor]]
slug = "x1-8-metal"
name = "8 × X1"
accelerator = "acme-x1"
accelerator_count = 8
vcpus = 96
memory_gib = 1024
machine_class = "bare_metal"

[[region]]
slug = "paris-1"
name = "Paris"
country = "FR"

[[cluster]]
slug = "paris-1-a"
region = "paris-1"
kind = "kubernetes"
[cluster.configuration]
storage = { nfs = { server = "10.0.0.5", path = "/exports" } }

[[node_pool]]
cluster = "paris-1-a"
flavor = "x1-8-metal"
capacity = 4
provisioning_p50_seconds = 900
reclaim_notice_seconds = 120
node_selector = { "acme.example/x1.count" = "8" }
taints = [{ key = "acme.example/x1", effect = "NoSchedule" }]

[[price]]
flavor = "x1-8-metal"
regions = ["paris-1"]
per_hour = "36.00"
"""

Written = Callable[[str], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(text: str) -> Path:
        path = tmp_path / "places.toml"
        path.write_text(text)
        return path

    return write


def seed(path: Path) -> str:
    output = io.StringIO()
    call_command("seed", "--no-weights", "--places", str(path), stdout=output)
    return output.getvalue()


def test_a_chip_its_size_and_where_it_is_come_from_one_file(written: Written) -> None:
    seed(written(SMALL))
    pool = NodePool.objects.select_related("flavor__accelerator", "cluster__region").get()
    assert (pool.cluster.slug, pool.cluster.region.slug, pool.flavor.slug) == (
        "paris-1-a",
        "paris-1",
        "x1-8-metal",
    )
    assert (pool.capacity, pool.provisioning_p50_seconds, pool.reclaim_notice_seconds) == (4, 900, 120)
    assert pool.node_selector == {"acme.example/x1.count": "8"}
    assert pool.taints == [{"key": "acme.example/x1", "effect": "NoSchedule"}]
    assert pool.flavor.accelerator.resource_name == "acme.example/x1"
    price = Price.objects.get()
    assert (price.flavor, price.currency, price.per_second) == (pool.flavor, "EUR", Decimal("0.01"))
    # Nothing of the shipped places, all of the shipped sizes.
    assert list(Region.objects.values_list("slug", flat=True)) == ["paris-1"]
    assert Flavor.objects.filter(slug="h100-1").exists()


def test_a_second_run_changes_nothing_and_a_changed_file_is_followed(written: Written) -> None:
    seed(written(SMALL))
    assert "0 created, 0 updated" in seed(written(SMALL))
    seed(written(SMALL.replace("capacity = 4", "capacity = 5")))
    assert NodePool.objects.get().capacity == 5


def test_the_example_can_be_loaded() -> None:
    seed(EXAMPLE)
    assert NodePool.objects.count() == 9
    assert set(NodePool.objects.values_list("flavor__machine_class", flat=True)) == {"virtual", "bare_metal"}
    assert {pool.flavor_id for pool in NodePool.objects.all()} == set(
        Price.objects.values_list("flavor_id", flat=True)
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("capacity = 4", "capacity = 0", "[[node_pool]] number 1, capacity: Input should be greater than 0"),
        ("capacity = 4", "capcity = 4", "[[node_pool]] number 1, capcity: is not known"),
        ("capacity = 4", "", "[[node_pool]] number 1, capacity: is missing"),
        ('"NoSchedule"', '"NoWay"', "[[node_pool]] number 1, taints[0].effect: Input should be"),
        ('family = "cuda"', 'family = "gpu"', "[[accelerator]] number 1, family: Input should be"),
        ('"36.00"', '"much"', "[[price]] number 1, per_hour: Input should be"),
        ('currency = "EUR"', "", "[[price]] needs `currency` and `valid_from`"),
        ('region = "paris-1"', 'region = "rome-1"', "Cluster paris-1-a refers to 'rome-1'"),
        ("[[region]]", "[[region", "is not TOML"),
        (', path = "/exports"', "", "storage.nfs.path: is missing"),
        ("storage = {", "storrage = {", "storrage: is not known"),
        ('accelerator = "acme-x1"', 'accelerator = "acme-x2"', "Flavor x1-8-metal refers to 'acme-x2'"),
        ('resource_name = "acme.example/x1"', "", "resource_name: A device plug-in gives chips a name"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_place(
    written: Written, old: str, new: str, complaint: str
) -> None:
    path = written(SMALL.replace(old, new, 1))
    with pytest.raises(CommandError) as refusal:
        seed(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert complaint in str(refusal.value)
    assert not Cluster.objects.exists() and not Accelerator.objects.filter(slug="acme-x1").exists()


@pytest.mark.parametrize("count", [65, 3])
def test_ipus_that_make_no_partition_are_refused(written: Written, count: int) -> None:
    text = SMALL.replace('resource_name = "acme.example/x1"', 'attachment = "ipujob"')
    path = written(text.replace("accelerator_count = 8", f"accelerator_count = {count}"))
    with pytest.raises(CommandError) as refusal:
        seed(path)
    expected = f"IPUs come in partitions of 1, 2, 4, 8, 16, 32, 64; {count} is none of these."
    assert f"accelerator_count: {expected}" in str(refusal.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="nowhere.toml: cannot be read: No such file or directory"):
        seed(tmp_path / "nowhere.toml")
