"""Node pools that take workloads, as planning reads them: columns of one query, and no model objects.

A plan looks at every pool that there is. Django would make five objects for each (pool, flavor, accelerator,
cluster, region), which takes longer than all that is decided about them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from marketplace.hardware.placement import open_pools
from marketplace.statements import Statement


class PoolChip(NamedTuple):
    """The columns of `hardware.Accelerator` that a plan needs."""

    family: str
    memory_bytes: int
    resource_name: str
    attachment: str


class PoolFlavor(NamedTuple):
    """The columns of `hardware.Flavor` that a plan needs."""

    pk: int
    slug: str
    machine_class: str
    vcpus: Decimal
    memory_bytes: int
    accelerator_count: int
    accelerator: PoolChip


class OpenPool(NamedTuple):
    """The columns of `hardware.NodePool` that a plan needs, with those of its cluster."""

    pk: int
    node_selector: dict[str, str]
    taints: list[dict[str, str]]
    capacity: int
    provisioning_p50_seconds: int
    cluster_pk: int
    cluster: str
    """Slug."""
    region_pk: int
    region: str
    """Slug."""
    flavor: PoolFlavor


_OF_POOL = ("pk", "node_selector", "taints", "capacity", "provisioning_p50_seconds")
_OF_CLUSTER = ("cluster_id", "cluster__slug", "cluster__region_id", "cluster__region__slug")
_OF_FLAVOR = ("pk", "slug", "machine_class", "vcpus", "memory_bytes", "accelerator_count")
_OF_CHIP = ("family", "memory_bytes", "resource_name", "attachment")
_COLUMNS = (
    *_OF_POOL,
    *_OF_CLUSTER,
    *(f"flavor__{name}" for name in _OF_FLAVOR),
    *(f"flavor__accelerator__{name}" for name in _OF_CHIP),
)
_every = Statement(lambda: open_pools().order_by("pk").values_list(*_COLUMNS))


def every_open_pool() -> list[OpenPool]:
    """Every pool that takes workloads, in one query."""
    return [_pool(row) for row in _every.rows()]


def _pool(row: tuple[Any, ...]) -> OpenPool:
    flavor = len(_OF_POOL) + len(_OF_CLUSTER)
    chip = flavor + len(_OF_FLAVOR)
    sold = PoolFlavor._make((*row[flavor:chip], PoolChip._make(row[chip:])))
    return OpenPool._make((*row[:flavor], sold))
