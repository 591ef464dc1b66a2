"""What the server tells of itself: versions, groups and the resources in them."""

from __future__ import annotations

from typing import Any

from tests.kubernetes.api.kinds import Kind, Kinds
from tests.kubernetes.api.schema import VERSION

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_SUBRESOURCE_VERBS = {
    "log": ["get"],
    "binding": ["create"],
    "eviction": ["create"],
}


def version() -> dict[str, str]:
    major, minor, _ = VERSION.split(".")
    return {"major": major, "minor": minor, "gitVersion": f"v{VERSION}-standin", "platform": "linux/amd64"}


def core_versions() -> dict[str, Any]:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(kinds: Kinds) -> dict[str, Any]:
    """GET /apis"""
    found = [_group(name, kinds) for name in dict.fromkeys(kind.group for kind in kinds) if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(name: str, kinds: Kinds) -> dict[str, Any]:
    """GET /apis/<group>"""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, kinds)}


def resources(group_name: str, version_name: str, kinds: Kinds) -> dict[str, Any] | None:
    """GET /apis/<group>/<version>; None when there is no such version."""
    found = [kind for kind in kinds if (kind.group, kind.version) == (group_name, version_name)]
    if not found:
        return None
    rows = [row for kind in found for row in _rows(kind)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found[0].api_version,
        "resources": rows,
    }


def _group(name: str, kinds: Kinds) -> dict[str, Any]:
    versions = [
        {"groupVersion": f"{name}/{item}", "version": item}
        for item in dict.fromkeys(kind.version for kind in kinds if kind.group == name)
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _rows(kind: Kind) -> list[dict[str, Any]]:
    row: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": _VERBS,
    }
    if kind.short:
        row["shortNames"] = list(kind.short)
    return [row] + [
        {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": _SUBRESOURCE_VERBS.get(name, ["get", "patch", "update"]),
        }
        for name in sorted(kind.subresources)
    ]
