"""A small market for tests: one local cluster with a CPU flavor, a chat model and a price."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.cache import cache
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.utils import timezone

from deployments.clusters.capacity import remember_nodes
from deployments.clusters.port import NodeCapacity
from marketplace.billing.models import Price
from marketplace.catalog.models import License, Model, ModelVersion, Recipe
from marketplace.hardware.models import Accelerator, Cluster, Flavor, NodePool, Region

GIB = 2**30
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Market:
    """What is offered in a test."""

    region: Region
    cluster: Cluster
    flavor: Flavor
    large: Flavor
    """Same accelerator, twice the memory, no price."""
    pool: NodePool
    price: Price
    model: Model
    version: ModelVersion
    recipe: Recipe


def make_market() -> Market:
    """Makes the rows and says that the cluster has 8 free cores and 16 GiB."""
    region = Region.objects.create(slug="test", name="Test region")
    cluster = Cluster.objects.create(slug="test", region=region, kind="local")
    chip = Accelerator.objects.create(slug="test-cpu", name="CPU", vendor="Any", family="cpu", memory_bytes=0)
    flavor, large = (
        Flavor.objects.create(
            slug=slug,
            name=slug,
            accelerator=chip,
            accelerator_count=0,
            vcpus=Decimal(2),
            memory_bytes=size * GIB,
            machine_class="virtual",
        )
        for slug, size in (("test-small", 4), ("test-large", 8))
    )
    pool = NodePool.objects.create(cluster=cluster, flavor=flavor, capacity=4)
    NodePool.objects.create(cluster=cluster, flavor=large, capacity=2)
    price = Price.objects.create(
        flavor=flavor,
        region=region,
        per_second=Decimal("0.00001"),
        currency="EUR",
        valid=DateTimeTZRange(BEGINNING, None),
    )
    license = License.objects.create(slug="test-license", name="Test license")
    model = Model.objects.create(
        publisher="tests", slug="chatter", name="Chatter", task="text-generation", license=license
    )
    version = ModelVersion.objects.create(
        model=model,
        revision="a" * 40,
        files=[{"path": "model.safetensors", "bytes": 4, "sha256": "b" * 64}],
        storage_path="models/chatter",
        parameters=134_515_008,
        precision="float32",
        context_length=8192,
        architecture={
            "layers": 30,
            "hidden_size": 576,
            "attention_heads": 9,
            "kv_heads": 3,
            "head_size": 64,
            "vocabulary": 49152,
        },
        published_at=timezone.now(),
    )
    recipe = Recipe.objects.create(
        version=version,
        engine="transformers",
        accelerator_family="cpu",
        image="marketplace/runtime-cpu:test",
        precision="float32",
        measured_start_seconds=10.0,
    )
    say_nodes(cluster, cores=8, memory=16 * GIB)
    return Market(
        region=region,
        cluster=cluster,
        flavor=flavor,
        large=large,
        pool=pool,
        price=price,
        model=model,
        version=version,
        recipe=recipe,
    )


def say_nodes(cluster: Cluster, *, cores: int, memory: int) -> None:
    """What the sweep would remember of the cluster: one empty node."""
    node = NodeCapacity(
        name="node", labels={}, allocatable={"cpu": cores * 1000, "memory": memory}, requested={}
    )
    remember_nodes(cluster.slug, [node])


@pytest.fixture
def market(db: None) -> Market:
    cache.clear()
    return make_market()
