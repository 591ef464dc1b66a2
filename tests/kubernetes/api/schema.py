"""The published schema of Kubernetes, as far as an API server acts on it: which fields there are, which lists
merge by key, which values are replaced as a whole.

The definitions are those that the project `kubernetes-validate` packages from every release; a custom
resource brings its own in the same words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

VERSION = "1.36.0"
"""Release of Kubernetes whose definitions the stand-in follows."""
_SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "number or text",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1": "any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
}
_EXPECTED = {
    "text": (str, "string"),
    "integer": (int, "numeric (int or float)"),
    "number": ((int, float), "numeric (int or float)"),
    "boolean": (bool, "boolean"),
    "quantity": ((str, int, float), "string"),
    "number or text": ((str, int), "string"),
}
_QUANTITY = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_KEY_DEFAULTS = {"protocol": "TCP"}
"""Keys of list items that may be left out; what stands for them then."""


class Node:
    """What may stand at one place of an object. Children are resolved when they are first asked for."""

    def __init__(self, definition: Mapping[str, Any], *, references: Mapping[str, Any]) -> None:
        special = ""
        extensions = dict(definition)
        while "$ref" in definition:
            name = definition["$ref"].rpartition("/")[2]
            special = special or _SPECIAL.get(name, "")
            definition = references[name]
            extensions = {**definition, **extensions}
        self._definition, self._references = definition, references
        self._children: dict[str, Node] = {}
        self.required: tuple[str, ...] = tuple(definition.get("required") or ())
        kind = definition.get("type")
        kind = next((item for item in kind if item != "null"), None) if isinstance(kind, list) else kind
        list_type = extensions.get("x-kubernetes-list-type")
        self.keys: tuple[str, ...] = ()
        self.patch_key: str = extensions.get("x-kubernetes-patch-merge-key", "")
        """Key by which strategic merge patches find an item of a list."""
        if special:
            self.kind = special
        elif extensions.get("x-kubernetes-int-or-string"):
            self.kind = "number or text"
        elif kind == "array":
            self.keys = tuple(extensions.get("x-kubernetes-list-map-keys") or ())
            self.kind = "keyed" if self.keys else "set" if list_type == "set" else "list"
        elif definition.get("properties"):
            self.kind = "struct"
        elif definition.get("additionalProperties") and kind == "object":
            self.kind = "map"
        else:
            self.kind = {
                "string": "text",
                "integer": "integer",
                "number": "number",
                "boolean": "boolean",
            }.get(str(kind), "any")
        self.is_atomic = extensions.get("x-kubernetes-map-type") == "atomic" or self.kind in ("any", "list")

    @property
    def is_granular(self) -> bool:
        """Its parts have owners of their own."""
        return self.kind in ("struct", "map", "keyed") and not self.is_atomic

    def child(self, name: str) -> Node | None:
        """The node of a field; None when there is no such field."""
        if name not in self._children:
            if self.kind == "any":
                return self
            found = (self._definition.get("properties") or {}).get(name)
            if found is None and self.kind == "map":
                found = self._definition["additionalProperties"]
                found = {} if found is True else found
            if found is None:
                return self if self._definition.get("x-kubernetes-preserve-unknown-fields") else None
            self._children[name] = Node(found, references=self._references)
        return self._children[name]

    @property
    def items(self) -> Node:
        if "[]" not in self._children:
            self._children["[]"] = Node(self._definition.get("items") or {}, references=self._references)
        return self._children["[]"]

    def key_of(self, item: Mapping[str, Any]) -> str:
        """Names an item of a keyed list, as managedFields write it."""
        keys = {key: item.get(key, _KEY_DEFAULTS.get(key)) for key in self.keys}
        return "k:" + json.dumps(dict(sorted(keys.items())), separators=(",", ":"))


def problems(node: Node, value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, what is wrong) for every unknown field and every value of a wrong type."""
    if value is None or node.kind == "any":
        return
    if node.kind in ("struct", "map"):
        if not isinstance(value, Mapping):
            yield path, f"expected map, got {_type_of(value)}"
            return
        for name, inner in value.items():
            child = node.child(name)
            if child is None:
                yield f"{path}.{name}", "field not declared in schema"
            else:
                yield from problems(child, inner, f"{path}.{name}")
    elif node.kind in ("keyed", "set", "list"):
        if not isinstance(value, list):
            yield path, f"expected list, got {_type_of(value)}"
            return
        for index, inner in enumerate(value):
            place = f"{path}[{index}]"
            if node.kind == "keyed" and isinstance(inner, Mapping):
                pairs = ",".join(f"{key}={json.dumps(inner.get(key))}" for key in node.keys)
                place = f"{path}[{pairs}]"
            yield from problems(node.items, inner, place)
    else:
        types, name = _EXPECTED[node.kind]
        if not isinstance(value, types) or (isinstance(value, bool) and node.kind != "boolean"):
            yield path, f"expected {name}, got {_type_of(value)}"
        elif node.kind == "quantity" and not _QUANTITY.fullmatch(str(value)):
            yield path, "quantities must match the regular expression"


def missing(node: Node, value: Any, path: str = "") -> Iterator[str]:
    """Paths of required fields that are not there."""
    if isinstance(value, Mapping):
        for name in node.required:
            if value.get(name) in (None, ""):
                yield f"{path}.{name}".removeprefix(".")
        for name, inner in value.items():
            child = node.child(name)
            if child is not None and isinstance(inner, dict | list):
                yield from missing(child, inner, f"{path}.{name}")
    elif isinstance(value, list) and node.kind != "any":
        for index, inner in enumerate(value):
            yield from missing(node.items, inner, f"{path}[{index}]")


def _type_of(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "int", float: "float", list: "list", dict: "map"}
    return names.get(type(value), "null")


@cache
def _definitions() -> Mapping[str, Any]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}-local"
    found: Mapping[str, Any] = json.loads((folder / "_definitions.json").read_bytes())["$defs"]
    return found


@cache
def builtin(name: str) -> Node:
    """The node of a published definition, for example io.k8s.api.apps.v1.Deployment."""
    return Node(_definitions()[name], references=_definitions())


def custom(definition: Mapping[str, Any]) -> Node:
    """The node of a custom resource: its own schema, with the metadata that every object has."""
    metadata = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    properties = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
    properties |= definition.get("properties") or {}
    return Node(
        {**definition, "type": "object", "properties": {**properties, "metadata": metadata}},
        references=_definitions(),
    )
