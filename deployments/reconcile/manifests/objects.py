"""What every object of ours has: name, namespace, labels, and the hash of what we wanted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from deployments.clusters.port import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    RESOURCE_LABEL,
    REVISION_LABEL,
    SPEC_HASH_ANNOTATION,
    Manifest,
)
from deployments.reconcile.names import namespace_name
from deployments.serving.spec import ServingSpec, Spec


def resource_labels(spec: Spec) -> dict[str, str]:
    """Which row an object belongs to, and which revision of it. What selects pods selects by these."""
    labels = {RESOURCE_LABEL: spec.resource}
    if isinstance(spec, ServingSpec):
        labels[REVISION_LABEL] = str(spec.revision)
    return labels


def owned(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels, and the one by which a list finds everything of ours."""
    return {MANAGED_BY_LABEL: MANAGED_BY, **labels}


def metadata(name: str, spec: Spec) -> dict[str, Any]:
    """Of an object that belongs to the row of the specification."""
    return {
        "name": name,
        "namespace": namespace_name(spec.organization, attachment=spec.resources.attachment),
        "labels": owned(resource_labels(spec)),
    }


def hashed(manifest: Mapping[str, Any]) -> Manifest:
    """The manifest with the hash of itself as an annotation."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    spec_hash = hashlib.sha256(text.encode()).hexdigest()[:32]
    return {
        **manifest,
        "metadata": {**manifest["metadata"], "annotations": {SPEC_HASH_ANNOTATION: spec_hash}},
    }
