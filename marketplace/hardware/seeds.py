"""Makes accelerators, flavors and places from the data files of this folder, or places from a provider's
own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import psutil
from django.conf import settings

from marketplace.hardware.models import Accelerator, Cluster, Flavor, NodePool, Region
from marketplace.hardware.places import Places
from marketplace.seeds import SeedCount, create_missing, find, read_data

GB = 10**9
GIB = 2**30
MACHINE_FIELDS = frozenset({"reserve_gib", "cpus_per_core", "at_least"})
"""Of a node pool without a capacity: what computes it."""


def seed_hardware(*, places: Places | None = None, update: bool = False) -> dict[str, SeedCount]:
    """Counts by table. `places` take the place of the shipped ones, and hold as they are written."""
    own = places is not None
    counts = _seed_sizes(
        read_data("hardware", "accelerators")["accelerator"],
        read_data("hardware", "flavors")["flavor"],
        update=update,
    )
    if places is not None:
        added = _seed_sizes(places.rows("accelerator"), places.rows("flavor"), update=True)
        counts = {name: count + added[name] for name, count in counts.items()}
        data = {table: places.rows(table) for table in ("region", "cluster", "node_pool")}
    else:
        data = read_data("hardware", "places")
    update = update or own
    counts["regions"] = create_missing(Region, data["region"], update=update)
    regions = {row.slug: row for row in Region.objects.all()}
    counts["clusters"] = create_missing(
        Cluster,
        [
            {**row, "region": find(regions, slug=row["region"], of=f"Cluster {row['slug']}")}
            for row in data["cluster"]
        ],
        update=update,
    )
    clusters = {row.slug: row for row in Cluster.objects.all()}
    flavors = {row.slug: row for row in Flavor.objects.all()}
    counts["node pools"] = create_missing(
        NodePool,
        [node_pool_values(row, clusters, flavors) for row in data["node_pool"]],
        key=("cluster", "flavor"),
        update=update,
    )
    return counts


def _seed_sizes(
    chips: Iterable[Mapping[str, Any]], sizes: Iterable[Mapping[str, Any]], *, update: bool
) -> dict[str, SeedCount]:
    counts = {"accelerators": create_missing(Accelerator, map(accelerator_values, chips), update=update)}
    accelerators = {row.slug: row for row in Accelerator.objects.all()}
    counts["flavors"] = create_missing(
        Flavor, [flavor_values(row, accelerators) for row in sizes], update=update
    )
    return counts


def accelerator_values(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in row.items() if name not in ("memory_gb", "bandwidth_gb")}
    values["memory_bytes"] = round(row["memory_gb"] * GB)
    if "bandwidth_gb" in row:
        values["bandwidth_bytes_per_second"] = round(row["bandwidth_gb"] * GB)
    return values


def flavor_values(row: Mapping[str, Any], accelerators: Mapping[str, Accelerator]) -> dict[str, Any]:
    values = {name: value for name, value in row.items() if name != "memory_gib"}
    values["memory_bytes"] = round(row["memory_gib"] * GIB)
    values["vcpus"] = Decimal(str(row["vcpus"]))
    values["accelerator"] = find(accelerators, slug=row["accelerator"], of=f"Flavor {row['slug']}")
    return values


def node_pool_values(
    row: Mapping[str, Any], clusters: Mapping[str, Cluster], flavors: Mapping[str, Flavor]
) -> dict[str, Any]:
    """A pool with a fixed `capacity`, or with one computed from this machine's memory and CPUs."""
    values = {name: value for name, value in row.items() if name not in MACHINE_FIELDS}
    values["cluster"] = find(clusters, slug=row["cluster"], of="A node pool")
    values["flavor"] = find(flavors, slug=row["flavor"], of=f"The node pool of {row['cluster']}")
    if "capacity" not in row:
        values["capacity"] = machine_capacity(
            total_bytes=psutil.virtual_memory().total,
            reserve_bytes=round(row["reserve_gib"] * GIB),
            workload_bytes=values["flavor"].memory_bytes,
            cpus=offered_cpus(
                settings.LOCAL_CLUSTER_CPU, cores=os.cpu_count() or 1, per_core=row["cpus_per_core"]
            ),
            workload_cpus=values["flavor"].vcpus,
            at_least=row["at_least"],
        )
    return values


def machine_capacity(
    *,
    total_bytes: int,
    reserve_bytes: int,
    workload_bytes: int,
    cpus: Decimal,
    workload_cpus: Decimal,
    at_least: int,
) -> int:
    """How many workloads fit: by memory beside the reserve, though never below `at_least`, and by CPUs.

    The scheduler counts CPUs as well: what is promised beyond them waits forever.
    """
    by_memory = max(at_least, (total_bytes - reserve_bytes) // workload_bytes)
    return min(by_memory, int(cpus // workload_cpus))


def offered_cpus(quantity: str, *, cores: int, per_core: int) -> Decimal:
    """What the local cluster offers: a quantity such as "8" or "7500m", empty for `per_core` of each core.

    Raises ValueError when the quantity is neither.
    """
    if not quantity:
        return Decimal(cores * per_core)
    try:
        number = Decimal(quantity.removesuffix("m"))
    except InvalidOperation:
        raise ValueError(f"LOCAL_CLUSTER_CPU is {quantity!r}: write CPUs as 8 or 7500m") from None
    return number / 1000 if quantity.endswith("m") else number
