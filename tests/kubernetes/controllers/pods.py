"""What controllers ask and make of pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.kubernetes.api.kinds import Kind
from tests.kubernetes.api.selectors import label_selector
from tests.kubernetes.api.server import Server, Write
from tests.kubernetes.api.store import Stored

MANAGER = "kube-controller-manager"


def phase(pod: Stored) -> str:
    return str((pod.value.get("status") or {}).get("phase", "Pending"))


def is_finished(pod: Stored) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Stored) -> bool:
    """It runs or will, and nobody has asked it to go."""
    return not is_finished(pod) and not pod.is_deleting


def is_ready(pod: Stored) -> bool:
    return condition(pod.value, "Ready").get("status") == "True"


def condition(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A condition of a status; empty when there is none."""
    conditions = (value.get("status") or {}).get("conditions") or ()
    return next((item for item in conditions if item["type"] == name), {})


def with_condition(
    server: Server, conditions: Sequence[Mapping[str, Any]], name: str, status: str, **more: str
) -> list[dict[str, Any]]:
    """The conditions with one set; the time of its last transition changes with its status alone."""
    before = next((item for item in conditions if item["type"] == name), {})
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    entry = {"type": name, "status": status, **{key: text for key, text in more.items() if text}}
    entry["lastTransitionTime"] = since or server.stamp()
    found = [dict(item) for item in conditions if item["type"] != name]
    return [*found, entry]


def pods_of(server: Server, owner: Stored) -> list[Stored]:
    return [item for item in server.store.dependents(owner.uid) if item.kind.kind == "Pod"]


def adopt(server: Server, owner: Stored, kind: Kind) -> None:
    """Makes the owner the controller of those that it selects and that have none: somebody has left them."""
    selects = label_selector(owner.value["spec"].get("selector"))
    for item in server.store.all(kind, owner.namespace):
        if controller_of(item.value) is None and not item.is_deleting and selects(item.labels):
            references = [*(item.metadata.get("ownerReferences") or ()), owner_reference(owner)]
            server.set_metadata(item, ownerReferences=references)


def owner_reference(owner: Stored) -> dict[str, Any]:
    return {
        "apiVersion": owner.kind.api_version,
        "kind": owner.kind.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference of the controller that made the object."""
    references = value["metadata"].get("ownerReferences") or ()
    return next((item for item in references if item.get("controller")), None)


def make_pod(
    server: Server,
    owner: Stored,
    template: Mapping[str, Any],
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    finalizers: Sequence[str] = (),
    name: str = "",
    spec: Mapping[str, Any] | None = None,
) -> Stored:
    """Makes a pod of a template for its owner. Raises Refused when admission says no."""
    given = template.get("metadata") or {}
    metadata: dict[str, Any] = {
        "labels": {**(given.get("labels") or {}), **(labels or {})},
        "ownerReferences": [owner_reference(owner)],
    }
    both = {**(given.get("annotations") or {}), **(annotations or {})}
    if both:
        metadata["annotations"] = both
    if finalizers:
        metadata["finalizers"] = list(finalizers)
    if name:
        metadata["name"] = name
    else:
        metadata["generateName"] = f"{owner.name}-"
    value = {"metadata": metadata, "spec": {**template["spec"], **(spec or {})}}
    return server.create(server.kinds["Pod"], owner.namespace, value, Write(manager=MANAGER, tracked=False))
