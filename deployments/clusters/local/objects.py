"""Changes objects: apply, delete, remove. May be called by any process, also while the node is down.

Each change is decided and written under one lock, carries generation, resourceVersion and uid as Kubernetes
does, and rings the resource's bell. An object that owns pods is only marked for deletion; the node removes it
when its pods are gone, so that "not observed" means "nothing runs".
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from deployments.clusters.errors import ClusterConflict, ClusterRejected
from deployments.clusters.local.store import Record, Store
from deployments.clusters.port import RESOURCE_LABEL, Manifest, ObjectRef

OWNING_KINDS = frozenset({"Deployment", "Job", "Namespace", "PersistentVolumeClaim"})
"""Kinds that go only after what they own, or what uses them."""
_SET_BY_CLUSTER = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp")


def resource_of(record: Mapping[str, Any]) -> str:
    """Public id of the row that wants the object, empty if it belongs to none."""
    return str((record["metadata"].get("labels") or {}).get(RESOURCE_LABEL, ""))


def apply(store: Store, manifest: Manifest) -> None:
    """Makes the object be as given; writes nothing if it already is. The manifest must be valid."""
    ref = ObjectRef.of(manifest)
    with store.changing_objects():
        _check_namespace(store, ref)
        current = store.read_object(ref)
        _check_precondition(manifest, current)
        if current is None:
            metadata = {**manifest["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": _now()}
            metadata |= {"generation": 1, "resourceVersion": "1"}
            store.write_object({**manifest, "metadata": metadata})
            store.ring(resource_of(manifest))
            return
        if current["metadata"].get("deletionTimestamp"):
            raise ClusterConflict(f"{ref} is being deleted; apply it again when it is gone")
        if _wished(current) == _wished(manifest):
            return
        _check_immutable(ref, manifest, current)
        old = current["metadata"]
        same_spec = _without_metadata(current) == _without_metadata(manifest)
        metadata = {
            **manifest["metadata"],
            "uid": old["uid"],
            "creationTimestamp": old["creationTimestamp"],
            "generation": old["generation"] + (not same_spec),
            "resourceVersion": str(int(old["resourceVersion"]) + 1),
        }
        store.write_object({**manifest, "metadata": metadata})
        for resource in {resource_of(current), resource_of(manifest)}:
            store.ring(resource)


def delete(store: Store, ref: ObjectRef) -> None:
    """Asks for the object and what it owns to go. Already gone is fine."""
    with store.changing_objects():
        record = store.read_object(ref)
        if record is None:
            return
        if ref.kind == "Namespace":
            for inner in store.objects.read_all():
                if inner["metadata"].get("namespace") == ref.name:
                    _let_go(store, inner)
        _let_go(store, record)


def remove(store: Store, ref: ObjectRef, *, uid: str) -> bool:
    """Removes an object marked for deletion; not one that has come back under its name. True if it did."""
    with store.changing_objects():
        record = store.read_object(ref)
        if (
            record is None
            or record["metadata"]["uid"] != uid
            or not record["metadata"].get("deletionTimestamp")
        ):
            return False
        store.remove_object(ref)
        return True


def _let_go(store: Store, record: Record) -> None:
    metadata = record["metadata"]
    if metadata.get("deletionTimestamp"):
        return
    if record["kind"] in OWNING_KINDS:
        version = str(int(metadata["resourceVersion"]) + 1)
        marked = {**metadata, "deletionTimestamp": _now(), "resourceVersion": version}
        store.write_object({**record, "metadata": marked})
    else:
        store.remove_object(ObjectRef.of(record))
    store.ring(resource_of(record))


def _check_namespace(store: Store, ref: ObjectRef) -> None:
    if not ref.namespace:
        return
    namespace = store.read_object(ObjectRef("v1", "Namespace", "", ref.namespace))
    if namespace is None:
        raise ClusterConflict(f'{ref}: namespaces "{ref.namespace}" not found')
    if namespace["metadata"].get("deletionTimestamp"):
        raise ClusterConflict(f'{ref}: namespace "{ref.namespace}" is being deleted')


def _check_precondition(manifest: Manifest, current: Record | None) -> None:
    """A manifest that names a uid or resourceVersion means that very object."""
    for name in ("uid", "resourceVersion"):
        wanted = manifest["metadata"].get(name)
        found = current["metadata"][name] if current else "none"
        if wanted and wanted != found:
            raise ClusterConflict(f"{ObjectRef.of(manifest)}: {name} is {found}, not {wanted}")


def _check_immutable(ref: ObjectRef, manifest: Manifest, current: Record) -> None:
    immutable = {"Deployment": ("selector",), "Job": ("template", "completions", "podFailurePolicy")}
    for name in immutable.get(ref.kind, ()):
        if manifest["spec"].get(name) != current["spec"].get(name):
            raise ClusterRejected(f"{ref}: spec.{name}: field is immutable", field=f"spec.{name}")


def _without_metadata(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("metadata", "status")}


def _wished(record: Mapping[str, Any]) -> dict[str, Any]:
    """The object without what the cluster adds to it."""
    metadata = {name: value for name, value in record["metadata"].items() if name not in _SET_BY_CLUSTER}
    return {**_without_metadata(record), "metadata": metadata}


def _now() -> str:
    return datetime.now(UTC).isoformat()
