"""Whose the fields of an object are, by `metadata.managedFields`: how an edit of ours is noticed. Pure.

The API server notes for every field who set it last. A field that somebody else sets to another value becomes
theirs; one that they remove is nobody's; one that they add is theirs from the start. So an object is as we
applied it when every field of our manifest is still ours and nobody else has fields in its specification. It
needs no second copy of the manifest on the cluster, and no knowledge of the defaults that are filled in.

Shape of the fields ("FieldsV1"): {"f:spec": {"f:replicas": {}, "f:containers": {'k:{"name":"main"}': {…}}}};
what is empty is owned as a whole. https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from deployments.clusters.port import Manifest, ObservedObject

Fields = Mapping[str, Any]
"""A set of fields in the shape above."""

_CONTENT = ("f:spec", "f:data", "f:binaryData", "f:stringData", "f:rules", "f:subjects", "f:roleRef")
"""Where an object says what it is. Status and metadata are everybody's."""
_HARMLESS = ("f:template", "f:metadata", "f:annotations")
"""Where `kubectl rollout restart` writes: undoing that would restart everything a second time."""


def edited(manifest: Manifest, seen: ObservedObject) -> str:
    """Who has changed what since the manifest was applied as `seen`; empty: nobody anything.

    `seen` carries the spec hash of the manifest, so what differs was not our doing.
    """
    if seen.changed_by:
        return f"it was changed by {seen.changed_by}"
    lost = "" if seen.fields is None else lost_field(manifest, seen.fields)
    return f"somebody has changed or removed {lost}" if lost else ""


def own_fields(entries: Iterable[Mapping[str, Any]], *, manager: str) -> Fields:
    """The fields that `manager` has applied and nobody has changed since."""
    for entry in entries:
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not _is_partial(entry):
            return entry.get("fieldsV1") or {}
    return {}


def changed_by(entries: Iterable[Mapping[str, Any]], *, manager: str) -> str:
    """Who else has set fields of what the object is, for example kubectl-edit; empty: nobody."""
    return ", ".join(
        sorted({str(entry.get("manager")) for entry in foreign_entries(entries, manager=manager)})
    )


def foreign_entries(entries: Iterable[Mapping[str, Any]], *, manager: str) -> list[Mapping[str, Any]]:
    """The entries of others that hold fields of what the object is."""
    return [
        entry
        for entry in entries
        if not (entry.get("manager") == manager and entry.get("operation") == "Apply")
        and not _is_partial(entry)
        and _has_content(entry.get("fieldsV1") or {})
    ]


def lost_field(manifest: Manifest, fields: Fields) -> str:
    """The first field of the manifest that is not ours any more, as a path; empty when all are.

    Values that mean nothing (null, empty, zero, false) need no owner: the API server may drop them.
    """
    metadata = manifest["metadata"]
    own = {name: metadata.get(name) for name in ("labels", "annotations")}
    content = {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind")}
    return _lost({**content, "metadata": own}, fields, path="") if fields else "metadata.managedFields"


def adopted(entries: Iterable[Mapping[str, Any]], *, manager: str) -> list[dict[str, Any]]:
    """The entries with what others have in the object counted as applied by `manager`.

    What `manager` then applies without those fields removes them: server-side apply never removes what
    somebody else owns. The way of client-go's csaupgrade package.
    """
    entries = list(entries)
    foreign = foreign_entries(entries, manager=manager)
    own = next(
        entry for entry in entries if entry.get("manager") == manager and entry.get("operation") == "Apply"
    )
    fields = dict(own.get("fieldsV1") or {})
    for entry in foreign:
        fields = _union(fields, entry.get("fieldsV1") or {})
    rest = [dict(entry) for entry in entries if entry is not own and entry not in foreign]
    return [{**own, "fieldsV1": fields}, *rest]


def _is_partial(entry: Mapping[str, Any]) -> bool:
    """Written through a subresource: a controller's status, or the scale of an autoscaler."""
    return entry.get("subresource", "") not in ("", "scale")


def _has_content(fields: Fields) -> bool:
    return any(name in _CONTENT and _without(inner, _HARMLESS) is not None for name, inner in fields.items())


def _without(fields: Fields, path: tuple[str, ...]) -> Fields | None:
    """The fields without those below `path`; None when nothing is left."""
    name, *rest = path
    if name not in fields:
        return fields
    inner = _without(fields[name], tuple(rest)) if rest else None
    found = {key: value for key, value in fields.items() if key not in (name, ".")}
    if inner is not None:
        found[name] = inner
    return found or None


def _lost(value: Any, fields: Fields, *, path: str) -> str:
    if not fields:
        return ""  # owned as a whole
    if isinstance(value, Mapping):
        for name, inner in value.items():
            where = f"{path}.{name}" if path else str(name)
            if not inner:
                continue
            if f"f:{name}" not in fields:
                return where
            if found := _lost(inner, fields[f"f:{name}"], path=where):
                return found
    elif isinstance(value, list):
        return _lost_item(value, fields, path=path)
    return ""


def _lost_item(items: list[Any], fields: Fields, *, path: str) -> str:
    keys = {name: _parsed(name) for name in fields if name.startswith("k:")}
    values = [_parsed(name) for name in fields if name.startswith("v:")]
    for item in items:
        if not isinstance(item, Mapping):
            if item not in values:
                return f"{path}[{item}]"
            continue
        name = next((name for name, key in keys.items() if _matches(item, key)), None)
        label = next(iter(item.values()), "")
        if name is None:
            return f"{path}[{label}]"
        if found := _lost(item, fields[name], path=f"{path}[{label}]"):
            return found
    return ""


@lru_cache(maxsize=4096)
def _parsed(name: str) -> Any:
    return json.loads(name[2:])


def _matches(item: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Whether the item has the key. A part of it that the item leaves out was filled in by default."""
    return any(name in item for name in key) and all(
        name not in item or item[name] == value for name, value in key.items()
    )


def _union(one: Fields, other: Fields) -> dict[str, Any]:
    found = dict(one)
    for name, inner in other.items():
        found[name] = _union(found[name], inner) if name in found else inner
    return found
