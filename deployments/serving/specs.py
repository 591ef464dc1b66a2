"""Builds the self-contained specification that a revision stores, from catalog and hardware rows."""

from __future__ import annotations

from typing import Any

from deployments.serving.errors import WishRefused
from deployments.serving.pools import OpenPool, PoolFlavor
from deployments.serving.spec import Mount, Resources, ServingSpec
from marketplace.catalog.models import ModelVersion, Recipe
from marketplace.hardware.attachments import Attachment, count_problem
from marketplace.hardware.models import Flavor, NodePool
from runtimes.contract import ServingEnvironment, Task

MODEL_DIR = "/model"
ADAPTER_DIR = "/adapter"
GRACE_SECONDS = 30
"""From SIGTERM to SIGKILL: the runtime's drain and a few seconds to stop."""


def weights_of(version: ModelVersion) -> ModelVersion:
    """The version whose files hold the base weights: itself, or an adapter's parent."""
    return version.parent if version.is_adapter and version.parent is not None else version


def digests_of(version: ModelVersion) -> dict[str, str]:
    """Relative path -> sha256 of each of the version's files."""
    return {file["path"]: file["sha256"] for file in version.files}


def weights_mounts(version: ModelVersion) -> tuple[Mount, ...]:
    """Where the container finds the version's files, read-only."""
    base = Mount(sub_path=weights_of(version).storage_path, mount_path=MODEL_DIR)
    if not version.is_adapter:
        return (base,)
    return (base, Mount(sub_path=version.storage_path, mount_path=ADAPTER_DIR))


def pod_resources(flavor: Flavor | PoolFlavor, pool: NodePool | OpenPool) -> Resources:
    """A pod takes the whole flavor and may land on the pool's nodes.

    Raises WishRefused for a flavor that nobody can be given.
    """
    chip = flavor.accelerator
    problem = count_problem(chip.attachment, flavor.accelerator_count)
    if problem:
        raise WishRefused(
            f"{flavor.slug} cannot be had: {problem} Take another flavor; we have to mend this one.",
            type="flavor-unusable",
            field="flavor",
        )
    # A device plug-in without a name for its chips gives none away.
    attached = bool(chip.resource_name) or chip.attachment != Attachment.DEVICE_PLUGIN
    return Resources(
        cpu_millicores=int(flavor.vcpus * 1000),
        memory_bytes=flavor.memory_bytes,
        accelerator_resource=chip.resource_name,
        accelerator_count=flavor.accelerator_count if attached else 0,
        attachment=Attachment(chip.attachment),
        node_selector=dict(pool.node_selector),
        tolerations=tuple(_tolerate(taint) for taint in pool.taints),
    )


def _tolerate(taint: dict[str, str]) -> dict[str, str]:
    toleration = {"key": taint["key"], "operator": "Exists", "effect": taint["effect"]}
    if taint.get("value"):
        toleration |= {"operator": "Equal", "value": taint["value"]}
    return toleration


def serving_spec(
    *,
    resource: str,
    organization: str,
    revision: int,
    name: str,
    version: ModelVersion,
    recipe: Recipe,
    flavor: Flavor,
    pool: NodePool,
    context_length: int,
    max_concurrency: int,
) -> ServingSpec:
    """The specification of one revision of a deployment called `name`."""
    weights = weights_of(version)
    values: dict[str, Any] = {
        "task": Task(version.model.task),
        "model_dir": MODEL_DIR,
        "model_name": name,
        "model_revision": version.revision,
        "digests": digests_of(weights),
        "adapter_dir": ADAPTER_DIR if version.is_adapter else "",
        "adapter_digests": digests_of(version) if version.is_adapter else {},
        "dtype": recipe.precision,
        "context_length": context_length,
        "max_concurrency": max_concurrency,
        "drain_seconds": GRACE_SECONDS - 5.0,
        **recipe.options,
    }
    environment = ServingEnvironment(**values).to_environment()
    # Whose pod it is and its own address: the manifest fills them in.
    del environment["RUNTIME_RESOURCE"], environment["RUNTIME_HOST"]
    return ServingSpec(
        resource=resource,
        organization=organization,
        revision=revision,
        image=recipe.image,
        environment=environment,
        mounts=weights_mounts(version),
        resources=pod_resources(flavor, pool),
        grace_seconds=GRACE_SECONDS,
    )
