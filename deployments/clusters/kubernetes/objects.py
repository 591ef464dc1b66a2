"""Objects between us and the API server: what is sent, and what a list tells of them. Pure.

Somebody else's change is read from `metadata.managedFields`, which every list carries: the API server notes
there who set which field last. See `deployments.clusters.ownership`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from deployments.clusters.kubernetes.kinds import ObjectKind
from deployments.clusters.ownership import changed_by, own_fields
from deployments.clusters.port import (
    FIELD_MANAGER,
    RESOURCE_LABEL,
    REVISION_LABEL,
    SPEC_HASH_ANNOTATION,
    Manifest,
    ObjectRef,
    ObservedObject,
)

INSTALLATION_LABEL = "marketplace/installation"


def labeled(manifest: Manifest, *, installation: str) -> dict[str, Any]:
    """The manifest as it is applied: it, and the pods that it describes, carry the installation's label."""
    found = {**manifest, "metadata": _with_label(manifest["metadata"], installation)}
    spec = manifest.get("spec")
    if isinstance(spec, Mapping):
        template = spec.get("template")
        if isinstance(template, Mapping):
            metadata = _with_label(template.get("metadata") or {}, installation)
            found["spec"] = {**spec, "template": {**template, "metadata": metadata}}
    return found


def observed_object(record: Mapping[str, Any], *, kind: ObjectKind) -> ObservedObject:
    """The object as the port shows it. `record` is its JSON, or that of its metadata alone."""
    metadata = record["metadata"]
    labels = metadata.get("labels") or {}
    entries = metadata.get("managedFields") or ()
    return ObservedObject(
        ref=ObjectRef(kind.api_version, kind.kind, metadata.get("namespace", ""), metadata["name"]),
        uid=metadata["uid"],
        resource=labels.get(RESOURCE_LABEL, ""),
        revision=revision_of(labels),
        spec_hash=(metadata.get("annotations") or {}).get(SPEC_HASH_ANNOTATION, ""),
        deleting_since=time_of(metadata.get("deletionTimestamp")),
        finalizers=tuple(metadata.get("finalizers") or ()),
        status=record.get("status") or {} if kind.has_status else {},
        fields=own_fields(entries, manager=FIELD_MANAGER),
        changed_by="" if kind.grows else changed_by(entries, manager=FIELD_MANAGER),
    )


def revision_of(labels: Mapping[str, str]) -> int | None:
    """The revision that a label names; None without a sensible one."""
    text = labels.get(REVISION_LABEL, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def time_of(text: Any) -> datetime | None:
    """A time of the API server's, timezone-aware; None for none."""
    if not isinstance(text, str) or not text:
        return None
    return datetime.fromisoformat(text)


def _with_label(metadata: Mapping[str, Any], installation: str) -> dict[str, Any]:
    return {**metadata, "labels": {**(metadata.get("labels") or {}), INSTALLATION_LABEL: installation}}
