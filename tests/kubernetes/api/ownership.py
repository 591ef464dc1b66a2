"""Who owns which field: sets of paths, managedFields, and server-side apply on top of them. Pure.

A path is a tuple of the words that managedFields use: "f:spec" for a field, 'k:{"name":"a"}' for an item of a
keyed list, 'v:"a"' for a member of a set. A set of paths holds the leaves, and each keyed item itself.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.kubernetes.api.schema import Node

Path = tuple[str, ...]
Paths = frozenset[Path]
_NONE = object()
_NOT_OWNED = frozenset(
    {("f:apiVersion",), ("f:kind",)}
    | {
        ("f:metadata", f"f:{name}")
        for name in (
            *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"),
            *("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"),
        )
    }
)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """One entry of managedFields."""

    manager: str
    operation: str  # Apply or Update
    subresource: str = ""
    api_version: str
    time: str
    paths: Paths

    @property
    def key(self) -> tuple[str, str, str]:
        return self.manager, self.operation, self.subresource

    def as_json(self) -> dict[str, Any]:
        entry = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": encode(self.paths),
        }
        return entry | ({"subresource": self.subresource} if self.subresource else {})


@dataclass(frozen=True)
class Conflict:
    """A field that another manager owns and holds another value in."""

    path: Path
    owner: Owner


def encode(paths: Iterable[Path]) -> dict[str, Any]:
    """FieldsV1: the paths as nested objects."""
    root: dict[str, Any] = {}
    items = []
    for path in paths:
        here = root
        for word in path:
            here = here.setdefault(word, {})
        if path[-1].startswith("k:"):
            items.append(here)
    for here in items:  # what is owned itself, beside what is in it
        if here:
            here["."] = {}
    return root


def decode(fields: Mapping[str, Any]) -> Paths:
    """The paths of a FieldsV1."""
    return frozenset(_decoded(fields, ()))


def _decoded(fields: Mapping[str, Any], prefix: Path) -> Iterator[Path]:
    if not fields and prefix:
        yield prefix
    for word, below in fields.items():
        if word == ".":
            yield prefix
        else:
            yield from _decoded(below, (*prefix, word))


def owners_of(entries: Iterable[Mapping[str, Any]]) -> tuple[Owner, ...]:
    """managedFields as a client sends them."""
    return tuple(
        Owner(
            manager=entry.get("manager", ""),
            operation=entry.get("operation", "Update"),
            subresource=entry.get("subresource", ""),
            api_version=entry.get("apiVersion", ""),
            time=entry.get("time", ""),
            paths=decode(entry.get("fieldsV1") or {}),
        )
        for entry in entries
    )


def written(path: Path) -> str:
    """A path as messages write it: .spec.containers[name="a"].image"""
    words = []
    for word in path:
        kind, _, rest = word.partition(":")
        if kind == "f":
            words.append(f".{rest}")
        elif kind == "k":
            pairs = ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(rest).items())
            words.append(f"[{pairs}]")
        else:
            words.append(f"[={rest}]")
    return "".join(words)


def paths_of(node: Node | None, value: Any, prefix: Path = ()) -> Iterator[Path]:
    """The paths of everything in a value."""
    if node is not None and value and not node.is_atomic:
        if node.kind in ("struct", "map") and isinstance(value, Mapping):
            for name, inner in value.items():
                yield from paths_of(node.child(name), inner, (*prefix, f"f:{name}"))
            return
        if node.kind == "keyed":
            for item in value:
                place = (*prefix, node.key_of(item))
                yield place
                yield from paths_of(node.items, item, place)
            return
        if node.kind == "set":
            yield from ((*prefix, f"v:{json.dumps(item)}") for item in value)
            return
    if prefix:
        yield prefix


def owned_paths(node: Node, value: Mapping[str, Any], *, subresource: str = "") -> Paths:
    """What a request with this value lays claim to: not identity, and status only through its subresource."""
    keep = ("f:status",) if subresource == "status" else None
    return frozenset(
        path
        for path in paths_of(node, value)
        if path[:2] not in _NOT_OWNED
        and path[:1] not in _NOT_OWNED
        and (path[:1] == keep if keep else path[:1] != ("f:status",))
    )


def apply_conflicts(
    node: Node, live: Mapping[str, Any], wanted: Mapping[str, Any], paths: Paths, others: Iterable[Owner]
) -> list[Conflict]:
    """Where the wanted value differs from the live one in a field that another manager owns."""
    found = []
    for owner in others:
        for path in sorted(paths & owner.paths):
            if path[-1].startswith(("k:", "v:")):
                continue  # to want an item that is there is no quarrel
            if lookup(node, live, path) != lookup(node, wanted, path):
                found.append(Conflict(path, owner))
    return found


def merge(node: Node | None, live: Any, wanted: Any) -> Any:
    """The live value with everything of the wanted one in it."""
    if node is None or node.is_atomic or live is None:
        return wanted
    if node.kind in ("struct", "map") and isinstance(live, Mapping) and isinstance(wanted, Mapping):
        merged = dict(live)
        for name, value in wanted.items():
            merged[name] = merge(node.child(name), live.get(name), value)
        return merged
    if node.kind == "keyed" and isinstance(live, list) and isinstance(wanted, list):
        items = {node.key_of(item): item for item in live}
        for item in wanted:
            key = node.key_of(item)
            items[key] = merge(node.items, items.get(key), item)
        return list(items.values())
    if node.kind == "set" and isinstance(live, list):
        return [*live, *(item for item in wanted if item not in live)]
    return wanted


def without(node: Node, value: dict[str, Any], gone: Paths, kept: Collection[Path]) -> dict[str, Any]:
    """The value without the paths in `gone`; what `kept` (others' paths) still needs stays."""
    items: set[Path] = set()
    """List items that went as a whole, their keys with them."""
    for path in sorted(gone, key=len):
        if any(path[:size] in items for size in range(1, len(path))):
            continue
        if not any(other[: len(path)] == path for other in kept):
            value = _removed(node, value, path)
            if path[-1].startswith("k:"):
                items.add(path)
    return value


def lookup(node: Node | None, value: Any, path: Path) -> Any:
    """The value at a path; None when there is none."""
    for word in path:
        if value is None:
            return None
        kind, _, rest = word.partition(":")
        if kind == "f":
            value = value.get(rest) if isinstance(value, Mapping) else None
            node = node.child(rest) if node else None
        elif kind == "k":
            keyed = node
            value = next((item for item in value if keyed and keyed.key_of(item) == word), None)
            node = node.items if node else None
        else:
            member = json.loads(rest)
            value = member if member in value else None
    return value


def _removed(node: Node | None, value: Any, path: Path) -> Any:
    """A copy of the value without the path; parents that became empty go too."""
    word, rest = path[0], path[1:]
    kind, _, name = word.partition(":")
    if kind == "f":
        if not isinstance(value, Mapping) or name not in value:
            return value
        copy = dict(value)
        inner = _removed(node.child(name) if node else None, value[name], rest) if rest else None
        if inner is None or inner in ({}, []):
            del copy[name]
        else:
            copy[name] = inner
        return copy
    if not isinstance(value, list):
        return value
    if kind == "v":
        return [item for item in value if item != json.loads(name)]
    if node is None:
        return value
    items = []
    for item in value:
        if node.key_of(item) != word:
            items.append(item)
        elif rest:
            items.append(_removed(node.items, item, rest))
    return items


def difference(node: Node | None, old: Any, new: Any, prefix: Path = ()) -> tuple[list[Path], list[Path]]:
    """(paths that were set or changed, paths that went) from one value to another."""
    changed: list[Path] = []
    gone: list[Path] = []
    _difference(node, old, new, prefix, changed, gone)
    return changed, gone


def _difference(
    node: Node | None, old: Any, new: Any, prefix: Path, changed: list[Path], gone: list[Path]
) -> None:
    if old is new or old == new:
        return
    if new is _NONE:
        gone.extend(paths_of(node, old, prefix))
    elif old is _NONE:
        changed.extend(paths_of(node, new, prefix))
    elif node is None or node.is_atomic:
        changed.append(prefix)
    elif node.kind in ("struct", "map") and isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in {**old, **new}:
            place = (*prefix, f"f:{name}")
            inner = node.child(name)
            _difference(inner, old.get(name, _NONE), new.get(name, _NONE), place, changed, gone)
    elif node.kind == "keyed" and isinstance(old, list) and isinstance(new, list):
        before = {node.key_of(item): item for item in old}
        after = {node.key_of(item): item for item in new}
        for key in {**before, **after}:
            place = (*prefix, key)
            if key not in before:
                changed.append(place)
            if key not in after:
                gone.append(place)
            _difference(node.items, before.get(key, _NONE), after.get(key, _NONE), place, changed, gone)
    elif node.kind == "set" and isinstance(old, list) and isinstance(new, list):
        changed.extend((*prefix, f"v:{json.dumps(item)}") for item in new if item not in old)
        gone.extend((*prefix, f"v:{json.dumps(item)}") for item in old if item not in new)
    else:
        changed.append(prefix)


def after_update(
    node: Node, owners: tuple[Owner, ...], before: Any, after: Mapping[str, Any], *, by: Owner
) -> tuple[Owner, ...]:
    """Owners after a write that was no apply: `by` (its paths are ignored) owns what it changed, alone."""
    changed, gone = difference(node, before, after)
    mine = frozenset(path for path in changed if path[:1] not in _NOT_OWNED and path[:2] not in _NOT_OWNED)
    lost = mine | frozenset(gone)
    if not lost:
        return owners
    result, known = [], False
    for owner in owners:
        if owner.key == by.key:
            known = True
            paths = (owner.paths - frozenset(gone)) | mine
            owner = owner if paths == owner.paths else replace(by, paths=paths)
        elif owner.paths & lost:
            owner = replace(owner, paths=owner.paths - lost)
        if owner.paths:
            result.append(owner)
    if not known and mine:
        result.append(replace(by, paths=mine))
    return tuple(result)


def after_apply(owners: tuple[Owner, ...], *, by: Owner, force: bool, taken: Paths) -> tuple[Owner, ...]:
    """Owners after an apply: `by` owns exactly what it wants; with force nobody else owns what it took."""
    result, known = [], False
    for owner in owners:
        if owner.key == by.key:
            known = True
            owner = owner if owner.paths == by.paths else by
        elif force and owner.paths & taken:
            owner = replace(owner, paths=owner.paths - taken)
        if owner.paths:
            result.append(owner)
    if not known and by.paths:
        result.append(by)
    return tuple(result)
