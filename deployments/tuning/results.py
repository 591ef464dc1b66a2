"""Publishes what a fine-tuning job made: the adapter becomes a private catalog version that deploys like any
other.

A job's output folder was writable by the container that trained, so nothing in it is believed: the adapter
is copied into the catalog's read-only storage first, and it is the copy that is checked, hashed and
published.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from deployments.tuning.models import FineTuningJob
from deployments.tuning.storage import CHECKPOINTS, output_path
from marketplace.catalog.folders import copy_file
from marketplace.catalog.manifests import Manifest, read_manifest
from marketplace.catalog.models import Model, ModelVersion, Recipe
from marketplace.catalog.offers import TUNING_ENGINES
from marketplace.catalog.safety import Refusal, check_content, check_path
from marketplace.catalog.storage import (
    full_path,
    holds,
    incoming_folder,
    remove_folder,
    storage_path_of,
    store,
)
from marketplace.catalog.storage import renew as renew_folder
from marketplace.catalog.tensors import count_parameters, main_precision, read_tensors

RESULT = "result.json"
"""Written last by the run: without it the output is not whole."""
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ALLOWED_SUFFIXES = (".json", ".safetensors")


class ResultError(Exception):
    """The output of a run cannot be published; running it again is no help. The message says why."""


def publish_result(*, job: FineTuningJob, renew: Callable[[], object] = lambda: None) -> ModelVersion:
    """The private version made of the job's output. Safe to repeat: the same output is the same version.

    Copying and hashing a large adapter takes minutes. `renew` is called every few megabytes, and raises when
    another attempt has taken over; two attempts at once disturb neither each other nor what is published.

    Raises ResultError when the output is incomplete, or holds anything but safetensors and JSON.
    """
    folder = full_path(output_path(job.public_id))
    _check_output(folder)
    gathered = _place_of_attempt(job)
    try:
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            copy_file(source=folder / name, target=gathered / name, on_chunk=renew)
        _raise_first(refusal for name in _names(gathered) for refusal in check_content(gathered, name))
        _check_adapter_config(gathered / ADAPTER_CONFIG)
        manifest = read_manifest(gathered, on_chunk=renew)
        facts = _facts(gathered / ADAPTER_WEIGHTS)
        if holds(manifest):
            renew_folder(manifest)  # it may be a deleted model's, about to be pruned
        else:
            store(gathered, manifest)
    except OSError:
        renew()  # whoever has taken over has removed our folder
        raise
    finally:
        remove_folder(gathered)
    return _publish(job, manifest=manifest, facts=facts)


def _place_of_attempt(job: FineTuningJob) -> Path:
    """A folder of this attempt's own. Those of earlier attempts, which died or are late, are removed."""
    name = f"result-{job.public_id}"
    place = incoming_folder(f"{name}-{uuid.uuid4().hex}")
    for other in place.parent.glob(f"{name}-*"):
        with suppress(OSError):  # a late one still writes into it, and removes it when it notices
            remove_folder(other)
    return place


def _check_output(folder: Path) -> None:
    if not (folder / RESULT).is_file():
        raise ResultError(f"The run left no {RESULT}, so its output is not whole.")
    names = _names(folder)
    for name in names:
        if not name.endswith(ALLOWED_SUFFIXES):
            raise ResultError(
                f"The output holds {name!r}; only {' and '.join(ALLOWED_SUFFIXES)} files are published."
            )
        _raise_first(check_path(folder, name))
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if name not in names:
            raise ResultError(f"The output has no {name}.")


def _names(folder: Path) -> list[str]:
    """Everything below the folder but its checkpoints, as sorted relative paths."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return sorted(path.as_posix() for path in paths if path.parts[0] != CHECKPOINTS)


def _raise_first(refusals: Any) -> None:
    refusal: Refusal | None = next(iter(refusals), None)
    if refusal is not None:
        raise ResultError(f"The output is not safe to publish: {refusal}")


def _check_adapter_config(file: Path) -> None:
    config = json.loads(file.read_bytes())  # check_content has read it as JSON before
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ResultError(f"{ADAPTER_CONFIG} does not describe a LoRA adapter.")
    if config.get("auto_mapping"):
        # peft imports the module that it names.
        raise ResultError(f"{ADAPTER_CONFIG} names code to import (auto_mapping).")


def _facts(weights: Path) -> dict[str, Any]:
    counts = count_parameters(read_tensors(weights))
    return {"parameters": sum(counts.values()), "precision": main_precision(counts)}


def _publish(job: FineTuningJob, *, manifest: Manifest, facts: dict[str, Any]) -> ModelVersion:
    base = job.base
    with transaction.atomic():
        version, _ = ModelVersion.objects.get_or_create(
            model=_private_model(job),
            revision=manifest.revision,
            defaults={
                "parent": base,
                "is_adapter": True,
                "files": manifest.to_json(),
                "storage_path": storage_path_of(manifest),
                "weights_bytes": manifest.weights_bytes,
                "context_length": base.context_length,
                "architecture": base.architecture,
                "published_at": timezone.now(),
                **facts,
            },
        )
        _copy_recipes(base, version)
    return version


def _private_model(job: FineTuningJob) -> Model:
    """The organization's model called as the job: a second job of that name adds a version to it."""
    organization, base = job.organization, job.base.model
    values: dict[str, Any] = {
        "name": job.name,
        "task": base.task,
        "tags": base.tags,
        "license": base.license,
        "description": f"Tuned from {base.name} by {organization.name}.",
        "source": f"job:{job.public_id}",
    }
    # A public publisher may happen to be called like the organization: its models are not touched.
    for slug in (job.name, f"{job.name}-{job.public_id.rpartition('_')[2]}"):
        try:
            with transaction.atomic():
                model, _ = Model.objects.get_or_create(
                    publisher=organization.slug,
                    slug=slug,
                    owner=organization,
                    deleted_at=None,
                    defaults=values,
                )
        except IntegrityError:
            continue
        return model
    raise ResultError(f"Another model is already called {organization.slug}/{job.name}.")


def _copy_recipes(base: ModelVersion, version: ModelVersion) -> None:
    """An adapter is served the way its base is."""
    Recipe.objects.bulk_create(
        [
            Recipe(
                version=version,
                engine=recipe.engine,
                accelerator_family=recipe.accelerator_family,
                image=recipe.image,
                precision=recipe.precision,
                tensor_parallel=recipe.tensor_parallel,
                min_memory_bytes=recipe.min_memory_bytes,
                options=recipe.options,
                measured_start_seconds=recipe.measured_start_seconds,
            )
            for recipe in base.recipes.exclude(engine__in=TUNING_ENGINES)
        ],
        ignore_conflicts=True,
    )
