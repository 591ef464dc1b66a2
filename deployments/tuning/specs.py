"""Builds the self-contained specification that a fine-tuning job stores, from catalog and hardware rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployments.serving.spec import Mount, TuningSpec
from deployments.serving.specs import MODEL_DIR, digests_of, pod_resources
from deployments.tuning.storage import CHECKPOINTS, output_path
from marketplace.catalog.models import ModelVersion, Recipe
from marketplace.hardware.models import NodePool
from runtimes.contract import Task, TuningEnvironment

TRAIN_FILE = "/data/train.jsonl"
VALIDATION_FILE = "/data/validation.jsonl"
OUTPUT_DIR = "/output"


def tuning_spec(
    *,
    job: str,
    organization: str,
    base: ModelVersion,
    recipe: Recipe,
    pool: NodePool,
    training_path: str,
    validation_path: str = "",
    hyperparameters: Mapping[str, Any],
    nodes: int = 1,
) -> TuningSpec:
    """The specification of the job with the given public id. Paths are those of datasets in the storage."""
    mounts = [
        Mount(sub_path=base.storage_path, mount_path=MODEL_DIR),
        Mount(sub_path=training_path, mount_path=TRAIN_FILE),
        Mount(sub_path=output_path(job), mount_path=OUTPUT_DIR, read_only=False),
    ]
    if validation_path:
        mounts.append(Mount(sub_path=validation_path, mount_path=VALIDATION_FILE))
    environment = TuningEnvironment(
        task=Task(base.model.task),
        job=job,
        model_dir=MODEL_DIR,
        digests=digests_of(base),
        train_file=TRAIN_FILE,
        validation_file=VALIDATION_FILE if validation_path else "",
        output_dir=OUTPUT_DIR,
        checkpoint_dir=f"{OUTPUT_DIR}/{CHECKPOINTS}",
        dtype=recipe.precision,
        **hyperparameters,
    )
    return TuningSpec(
        resource=job,
        organization=organization,
        image=recipe.image,
        environment=environment.to_environment(),
        mounts=tuple(mounts),
        resources=pod_resources(pool.flavor, pool),
        nodes=nodes,
    )
