"""Makes licenses, frameworks and catalog entries from the data files, and publishes the packaged models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marketplace.catalog.manifests import Manifest
from marketplace.catalog.models import Framework, License, Model, ModelVersion
from marketplace.catalog.packages import PACKAGES, unpacked
from marketplace.catalog.recipes import attach_recipes
from marketplace.catalog.storage import holds
from marketplace.catalog.versions import publish_folder
from marketplace.seeds import SeedCount, create_missing, find, read_data

FACT_COLUMNS = ("parameters", "precision", "context_length")


def seed_catalog(*, update: bool = False) -> dict[str, SeedCount]:
    """Counts by table. Downloads nothing: entries are metadata."""
    counts = {"licenses": create_missing(License, read_data("catalog", "licenses")["license"], update=update)}
    licenses = {row.slug: row for row in License.objects.all()}
    frameworks = [_with_license(row, licenses) for row in read_data("catalog", "frameworks")["framework"]]
    counts["frameworks"] = create_missing(Framework, frameworks, update=update)
    entries = read_data("catalog", "models")["model"]
    counts["models"] = create_missing(
        Model,
        [model_values(entry, licenses) for entry in entries],
        key=("publisher", "slug"),
        update=update,
    )
    counts["announced versions"] = _announce_versions(entries)
    return counts


def model_values(entry: Mapping[str, Any], licenses: Mapping[str, License]) -> dict[str, Any]:
    """Columns of an entry. Facts stay with the model too: they are all there is until a version comes."""
    values = {
        name: value for name, value in entry.items() if name not in (*FACT_COLUMNS, "revision", "package")
    }
    values["facts"] = {name: entry[name] for name in FACT_COLUMNS if name in entry}
    return _with_license(values, licenses)


def _with_license(row: Mapping[str, Any], licenses: Mapping[str, License]) -> dict[str, Any]:
    return {**row, "license": find(licenses, slug=row["license"], of=f"The entry {row['slug']}")}


def _announce_versions(entries: list[dict[str, Any]]) -> SeedCount:
    """A version without files for each entry whose commit is known: importing it fills the files in."""
    pinned = {(entry["publisher"], entry["slug"]): entry for entry in entries if "revision" in entry}
    held = set(ModelVersion.objects.values_list("model__publisher", "model__slug", "revision"))
    missing = {key: entry for key, entry in pinned.items() if (*key, entry["revision"]) not in held}
    if missing:
        models = {(model.publisher, model.slug): model for model in Model.objects.filter(owner=None)}
        versions = ModelVersion.objects.bulk_create(
            ModelVersion(
                model=models[key],
                revision=entry["revision"],
                **{column: entry[column] for column in FACT_COLUMNS if column in entry},
            )
            for key, entry in missing.items()
        )
        attach_recipes(versions)
    return SeedCount(created=len(missing), kept=len(pinned) - len(missing))


def packaged_models() -> dict[str, Model]:
    """The catalog entries that a package brings the weights of, by package name."""
    entries = [entry for entry in read_data("catalog", "models")["model"] if "package" in entry]
    return {
        entry["package"]: Model.objects.get(publisher=entry["publisher"], slug=entry["slug"])
        for entry in entries
    }


def publish_package(name: str, model: Model) -> tuple[ModelVersion, bool]:
    """The version with a package's files, and whether it was published just now.

    Raises `packages.PackageMissing`, `packages.ConversionFailed` or `safety.UnsafeModel`.
    """
    for version in model.versions.exclude(published_at=None).order_by("-id"):
        if holds(Manifest.from_json(version.files)):
            return version, False
    with unpacked(PACKAGES[name]) as folder:
        return publish_folder(model, folder), True
