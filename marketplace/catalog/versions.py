"""Publishes versions: the files are in storage first, then the row says so, once and for good."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from marketplace.catalog.facts import Facts, read_facts
from marketplace.catalog.folders import copy_file, read_folder
from marketplace.catalog.manifests import Manifest
from marketplace.catalog.models import Model, ModelVersion
from marketplace.catalog.recipes import attach_recipes
from marketplace.catalog.selection import WEIGHTS
from marketplace.catalog.storage import holds, incoming_folder, storage_path_of, store
from marketplace.catalog.tensors import count_parameters, read_tensors


def publish_folder(model: Model, folder: Path) -> ModelVersion:
    """Checks, copies and publishes a folder in one go; the revision is made from the files' digest.

    For small folders at hand, as seeds and tests have; an import does the same in short passes.
    Raises `folders.FolderMissing` or `safety.UnsafeModel`.
    """
    manifest = read_folder(folder)
    if not holds(manifest):
        gathered = incoming_folder(uuid.uuid4().hex)
        for file in manifest.files:
            copy_file(source=folder / file.path, target=gathered / file.path)
        store(gathered, manifest)
    return publish(model, revision=manifest.revision, manifest=manifest, facts=facts_of_folder(folder))


def publish(model: Model, *, revision: str, manifest: Manifest, facts: Facts) -> ModelVersion:
    """Makes the version row of files that storage already holds, with its recipes. Safe to repeat.

    A published version is returned as it is; an announced one (without files) gets its files and facts.
    """
    values: dict[str, Any] = {
        "files": manifest.to_json(),
        "storage_path": storage_path_of(manifest),
        "weights_bytes": manifest.weights_bytes,
        "parameters": facts.parameters,
        "precision": facts.precision,
        "context_length": facts.context_length,
        "architecture": dict(facts.architecture),
        "published_at": timezone.now(),
    }
    with transaction.atomic():
        version, created = ModelVersion.objects.get_or_create(model=model, revision=revision, defaults=values)
        if not created:
            # Only an announced version changes; the condition makes a race between two imports harmless.
            ModelVersion.objects.filter(pk=version.pk, published_at=None).update(**values)
            version.refresh_from_db()
        attach_recipes([version])
    return version


def facts_of_folder(folder: Path) -> Facts:
    """Facts from the config.json and the weights' headers below a folder."""
    path = folder / "config.json"
    config = json.loads(path.read_bytes()) if path.is_file() else {}
    counts: dict[str, int] = {}
    for file in sorted(folder.rglob(f"*{WEIGHTS}")):
        for dtype, values in count_parameters(read_tensors(file)).items():
            counts[dtype] = counts.get(dtype, 0) + values
    return read_facts(config=config, parameters=counts)
