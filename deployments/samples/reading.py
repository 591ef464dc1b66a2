"""Reads samples and builds their specifications the way that the product does, from rows that nobody stores.

A sample is a TOML file of this folder: what a customer would ask for. Models and sizes are those of the
shipped catalog and hardware data; where it runs comes from a file of places (`places.toml`, or a provider's
own).
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.clusters.port import Manifest
from deployments.clusters.site import Site
from deployments.reconcile.manifests import serving_manifests, tuning_manifests
from deployments.reconcile.tenancy import tenancy_manifests
from deployments.serving.spec import ServingSpec, TuningSpec
from deployments.serving.specs import serving_spec
from deployments.tuning.specs import tuning_spec
from marketplace.catalog.models import Model, ModelVersion, Recipe
from marketplace.catalog.offers import TUNING_ENGINES
from marketplace.catalog.recipes import engine_images
from marketplace.hardware.models import Accelerator, Cluster, Flavor, NodePool
from marketplace.hardware.places import Places, read_places
from marketplace.hardware.seeds import accelerator_values, flavor_values, node_pool_values
from marketplace.seeds import read_data

FOLDER = Path(__file__).resolve().parent
PLACES = FOLDER / "places.toml"
ORGANIZATION = "org_0000000000000000000sample"
QUOTA_UNITS = 16
"""Of every accelerator that a place has."""


class Sample(BaseModel):
    """One file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["serving", "tuning"]
    description: str
    model: str
    """publisher/slug of the shipped catalog."""
    flavor: str
    image: str = ""
    """For accelerators that no shipped engine has an image for."""
    replicas: int = Field(default=1, ge=1)
    context_length: int = Field(default=4096, ge=1)
    max_concurrency: int = Field(default=8, ge=1)
    nodes: int = Field(default=1, ge=1)
    hyperparameters: dict[str, int | float] = {}


@dataclass(frozen=True, kw_only=True)
class Built:
    """A sample, and what is applied for it."""

    name: str
    description: str
    spec: ServingSpec | TuningSpec
    shared: tuple[Manifest, ...]
    """Of the organization's namespace."""
    own: tuple[Manifest, ...]


class SampleError(ValueError):
    """A sample cannot be built. The message names the file and what is wrong."""


def build_samples(*, places: Path = PLACES, organization: str = ORGANIZATION) -> list[Built]:
    """All samples, by name, for an organization (public id). Raises SampleError or SeedError."""
    world = _World(read_places(places))
    paths = sorted(path for path in FOLDER.glob("*.toml") if path != PLACES)
    return [_build(path, world, organization=organization) for path in paths]


class _World:
    """Rows of the shipped data and of a file of places, by slug. None is in a database."""

    def __init__(self, places: Places) -> None:
        chips = [*read_data("hardware", "accelerators")["accelerator"], *places.rows("accelerator")]
        self.accelerators = {row["slug"]: Accelerator(**accelerator_values(row)) for row in chips}
        sizes = [*read_data("hardware", "flavors")["flavor"], *places.rows("flavor")]
        self.flavors = {row["slug"]: Flavor(**flavor_values(row, self.accelerators)) for row in sizes}
        clusters = {
            row["slug"]: Cluster(**{name: value for name, value in row.items() if name != "region"})
            for row in places.rows("cluster")
        }
        pools = [
            NodePool(**node_pool_values(row, clusters, self.flavors)) for row in places.rows("node_pool")
        ]
        self.pools = {pool.flavor.slug: pool for pool in pools}
        self.models = {
            f"{row['publisher']}/{row['slug']}": row for row in read_data("catalog", "models")["model"]
        }

    def limits(self) -> Mapping[str, int]:
        """A quota for each resource that a pool of the places has."""
        chips = {pool.flavor.accelerator.resource_name for pool in self.pools.values()}
        return dict.fromkeys(sorted(chips - {""}), QUOTA_UNITS)


def _build(path: Path, world: _World, *, organization: str) -> Built:
    try:
        sample = Sample.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        facts, pool = world.models[sample.model], world.pools[sample.flavor]
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise SampleError(f"{path}: {error}") from error
    except KeyError as error:
        raise SampleError(f"{path}: there is no model, or no node pool, called {error}") from error
    version = _version(facts)
    recipe = _recipe(sample, version, family=pool.flavor.accelerator.family, path=path)
    site = Site.of(pool.cluster.kind, pool.cluster.configuration)
    number = hashlib.sha256(path.stem.encode()).hexdigest()[:26]
    own: tuple[Manifest, ...]
    spec: ServingSpec | TuningSpec
    if sample.kind == "serving":
        spec = serving_spec(
            resource=f"dep_{number}",
            organization=organization,
            revision=1,
            name=path.stem,
            version=version,
            recipe=recipe,
            flavor=pool.flavor,
            pool=pool,
            context_length=sample.context_length,
            max_concurrency=sample.max_concurrency,
        )
        own = serving_manifests(spec, replicas=sample.replicas, site=site)
    else:
        spec = tuning_spec(
            job=f"ftj_{number}",
            organization=organization,
            base=version,
            recipe=recipe,
            pool=pool,
            training_path=f"datasets/{_digest(path.stem)}.jsonl",
            hyperparameters=sample.hyperparameters,
            nodes=sample.nodes,
        )
        own = tuning_manifests(spec, site=site)
    shared = tenancy_manifests(
        organization, attachment=spec.resources.attachment, limits=world.limits(), site=site
    )
    return Built(name=path.stem, description=sample.description, spec=spec, shared=shared, own=own)


def _version(facts: Mapping[str, Any]) -> ModelVersion:
    """A version as an import would have stored it. Its digests are made from names: nobody has these
    files."""
    model = f"{facts['publisher']}/{facts['slug']}"
    files = [
        {"path": path, "bytes": 1, "sha256": _digest(f"{model}/{path}")}
        for path in ("config.json", "model.safetensors", "tokenizer.json")
    ]
    return ModelVersion(
        model=Model(publisher=facts["publisher"], slug=facts["slug"], name=facts["name"], task=facts["task"]),
        revision=facts.get("revision") or _digest(model)[:40],
        files=files,
        storage_path=f"models/{_digest(model)}",
        parameters=facts["parameters"],
        precision=facts["precision"],
    )


def _recipe(sample: Sample, version: ModelVersion, *, family: str, path: Path) -> Recipe:
    tunes = sample.kind == "tuning"
    for image in engine_images():
        fits = image.suits(task=version.model.task, parameters=version.parameters)
        if fits and image.family == family and (image.engine in TUNING_ENGINES) == tunes:
            return Recipe(engine=image.engine, image=sample.image or image.image, precision=image.precision)
    if not sample.image:
        raise SampleError(f"{path}: no shipped engine runs {sample.model} on {family}: give it an `image`")
    return Recipe(engine="other", image=sample.image, precision="float16")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
