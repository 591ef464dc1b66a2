"""Merge patches (RFC 7396) and strategic merge patches, as kubectl and clients send them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.kubernetes.api.schema import Node

_DIRECTIVES = ("$setElementOrder/", "$retainKeys", "$patch")


def merge_patch(value: Any, patch: Any) -> Any:
    """RFC 7396: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(value) if isinstance(value, Mapping) else {}
    for name, inner in patch.items():
        if inner is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), inner)
    return merged


def strategic_merge_patch(node: Node | None, value: Any, patch: Any) -> Any:
    """As above, but lists that have a merge key are merged item by item."""
    if isinstance(patch, Mapping):
        if patch.get("$patch") == "replace":
            return {name: inner for name, inner in patch.items() if name != "$patch"}
        merged = dict(value) if isinstance(value, Mapping) else {}
        for name, inner in patch.items():
            if name.startswith("$deleteFromPrimitiveList/"):
                field = name.partition("/")[2]
                merged[field] = [item for item in merged.get(field) or () if item not in inner]
            elif name.startswith(_DIRECTIVES):
                continue
            elif inner is None:
                merged.pop(name, None)
            else:
                child = node.child(name) if node else None
                merged[name] = strategic_merge_patch(child, merged.get(name), inner)
        return merged
    if isinstance(patch, list) and isinstance(value, list) and node is not None:
        if node.kind == "set":
            return [*value, *(item for item in patch if item not in value)]
        if node.patch_key:
            return _merged_items(node, value, patch)
    return patch


def _merged_items(node: Node, value: list[Any], patch: list[Any]) -> list[Any]:
    key = node.patch_key
    items = list(value)
    for change in patch:
        index = next((i for i, item in enumerate(items) if item.get(key) == change.get(key)), None)
        if change.get("$patch") == "delete":
            if index is not None:
                del items[index]
        elif index is None:
            items.append(change)
        else:
            items[index] = strategic_merge_patch(node.items, items[index], change)
    return items
