"""A provider's own places: the file that `manage.py seed --places FILE` reads. Its shape, nothing of its
rows.

The file is TOML with the tables of the shipped data files, each as often as needed:

    currency = "EUR"                        # of all prices in the file
    valid_from = 2026-01-01T00:00:00Z       # since when they hold

    [[accelerator]]                         # only chips that the marketplace does not ship
    slug = "acme-x1"
    name = "Acme X1"
    vendor = "Acme"
    family = "cuda"                         # what runtime images must be built for: cpu, cuda, rocm, ipu
    memory_gb = 96                          # decimal, of one device
    peak_tflops = { bfloat16 = 400.0 }      # dense
    bandwidth_gb = 2000
    resource_name = "acme.example/x1"       # what a pod asks its node for
    attachment = "device_plugin"            # or "ipujob"

    [[flavor]]                              # only sizes that the marketplace does not ship
    slug = "x1-8-metal"
    name = "8 × X1 bare metal"
    accelerator = "acme-x1"
    accelerator_count = 8
    vcpus = 96
    memory_gib = 1024                       # binary, of the host
    machine_class = "bare_metal"            # or "virtual"

    [[region]]
    slug = "paris-1"
    name = "Paris"
    country = "FR"

    [[cluster]]
    slug = "paris-1-a"
    region = "paris-1"
    kind = "kubernetes"
    [cluster.configuration]                 # see deployments/clusters/site.py
    kubeconfig = ""                         # "" = the service account of the control plane's own pods
    storage = { nfs = { server = "10.0.0.5", path = "/exports/marketplace" } }

    [[node_pool]]
    cluster = "paris-1-a"
    flavor = "x1-8-metal"
    capacity = 4                            # workloads of this flavor that fit when the pool is empty
    provisioning_p50_seconds = 900          # until a new node is there: 0 = nodes are always there
    provisioning_p95_seconds = 2400
    reclaim_notice_seconds = 120            # leave it out where nodes are never taken back
    node_selector = { "acme.example/x1.count" = "8" }
    taints = [{ key = "acme.example/x1", effect = "NoSchedule" }]

    [[price]]
    flavor = "x1-8-metal"
    regions = ["paris-1"]
    per_hour = "19.20"                      # of the whole flavor, as text
    source = "List price"

Its regions, clusters, pools and prices take the place of the shipped ones; its accelerators and flavors are
added.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketplace.hardware.attachments import Attachment
from marketplace.hardware.models import AcceleratorFamily, ClusterKind, MachineClass
from marketplace.seeds import SeedError

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
Name = Annotated[str, Field(min_length=1, max_length=80)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Accelerator(_Table):
    slug: Slug
    name: Name
    vendor: Name
    family: Annotated[AcceleratorFamily, Field(strict=False)]
    memory_gb: float = Field(ge=0)
    peak_tflops: dict[str, float] = {}
    bandwidth_gb: float | None = Field(default=None, gt=0)
    cores: int | None = Field(default=None, gt=0)
    resource_name: str = ""
    attachment: Annotated[Attachment, Field(strict=False)] = Attachment.DEVICE_PLUGIN
    source: str = ""


class _Flavor(_Table):
    slug: Slug
    name: Name
    accelerator: Slug
    accelerator_count: int = Field(ge=0)
    vcpus: float = Field(gt=0)
    memory_gib: float = Field(gt=0)
    machine_class: Annotated[MachineClass, Field(strict=False)]
    enabled: bool = True


class _Region(_Table):
    slug: Slug
    name: Name
    country: str = Field(default="", pattern=r"^([A-Z]{2})?$")


class _Cluster(_Table):
    slug: Slug
    region: Slug
    kind: Annotated[ClusterKind, Field(strict=False)]
    configuration: dict[str, Any] = {}
    enabled: bool = True


class _Taint(_Table):
    key: str = Field(min_length=1)
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class _NodePool(_Table):
    cluster: Slug
    flavor: Slug
    capacity: int = Field(gt=0)
    node_selector: dict[str, str] = {}
    taints: list[_Taint] = []
    provisioning_p50_seconds: int = Field(default=0, ge=0)
    provisioning_p95_seconds: int = Field(default=0, ge=0)
    reclaim_notice_seconds: int | None = Field(default=None, ge=0)


class _Price(_Table):
    flavor: Slug
    regions: list[Slug] = Field(min_length=1)
    per_hour: Annotated[Decimal, Field(gt=0, strict=False)]
    source: str = ""


class Places(_Table):
    """The whole file, checked."""

    currency: str = Field(default="", pattern=r"^([A-Z]{3})?$")
    valid_from: datetime | None = None
    accelerator: list[_Accelerator] = []
    flavor: list[_Flavor] = []
    region: list[_Region] = Field(min_length=1)
    cluster: list[_Cluster] = []
    node_pool: list[_NodePool] = []
    price: list[_Price] = []

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table as the shipped data files hold them."""
        return [row.model_dump(exclude_unset=True) for row in getattr(self, table)]


def read_places(path: Path) -> Places:
    """The file at `path`. Raises SeedError naming file, table and key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SeedError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SeedError(f"{path}: is not TOML: {error}") from error
    try:
        places = Places.model_validate(data)
    except ValidationError as error:
        problems = [f"{_where(item['loc'])}: {_what(item)}" for item in error.errors(include_url=False)]
        raise SeedError("\n".join(f"{path}: {problem}" for problem in problems)) from error
    if places.price and not (places.currency and places.valid_from and places.valid_from.tzinfo):
        raise SeedError(
            f"{path}: [[price]] needs `currency` and `valid_from` with its time zone at the top of the file"
        )
    return places


def _what(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "is not known"
    if item["type"] == "missing":
        return "is missing"
    return f"{item['msg']}, not {item['input']!r}"


def _where(location: Sequence[int | str]) -> str:
    """("node_pool", 1, "taints", 0, "effect") as [[node_pool]] number 2, taints[0].effect."""
    table, *rest = location
    if not rest or not isinstance(rest[0], int):
        return str(table)
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest[1:])
    return f"[[{table}]] number {rest[0] + 1}" + (f", {path.removeprefix('.')}" if path else "")
