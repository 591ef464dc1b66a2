"""JSON patches (RFC 6902), merge patches (RFC 7396) and strategic merge patches. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.kubernetes.api.schema import Node

_DIRECTIVES = ("$setElementOrder/", "$retainKeys", "$patch")


class PatchFailed(Exception):
    """A JSON patch that cannot be done: a test that fails, a path that is not there."""


def json_patch(value: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """RFC 6902: add, remove, replace and test. Raises PatchFailed."""
    for operation in operations:
        path = [word.replace("~1", "/").replace("~0", "~") for word in operation["path"].split("/")[1:]]
        value = _patched(value, path, operation)
    return value


def _patched(value: Any, path: list[str], operation: Mapping[str, Any]) -> Any:
    kind, word = operation["op"], path[0]
    if not isinstance(value, dict | list):
        raise PatchFailed(f"{operation['path']} is not there")
    copy: Any = value.copy()
    index: Any = word if isinstance(value, dict) else len(value) if word == "-" else int(word)
    there = index in value if isinstance(value, dict) else index < len(value)
    if not there and (kind != "add" or len(path) > 1):
        raise PatchFailed(f"{operation['path']} is not there")
    if len(path) > 1:
        copy[index] = _patched(value[index], path[1:], operation)
    elif kind == "remove":
        del copy[index]
    elif kind == "test":
        if value[index] != operation["value"]:
            raise PatchFailed(f"testing value {operation['path']} failed")
    elif kind == "add" and isinstance(copy, list):
        copy.insert(index, operation["value"])
    elif kind in ("add", "replace"):
        copy[index] = operation["value"]
    else:
        raise PatchFailed(f"the stand-in knows no operation {kind}")
    return copy


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
    if isinstance(patch, list) and node is not None:
        there = value if isinstance(value, list) else []
        if node.kind == "set":
            return [*there, *(item for item in patch if item not in there)]
        if node.patch_key:
            return _merged_items(node, there, patch)
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
            items.append(strategic_merge_patch(node.items, {}, change))
        else:
            items[index] = strategic_merge_patch(node.items, items[index], change)
    return items
