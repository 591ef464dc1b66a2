"""Label and field selectors, as list and watch requests write them and as objects hold them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.kubernetes.api.refusals import bad_request

Labels = Mapping[str, str]
_SET = re.compile(r"(?P<key>[^\s!=,()]+)\s+(?P<word>in|notin)\s+\((?P<values>[^)]*)\)")
_EQUAL = re.compile(r"(?P<key>[^\s!=,()]+)\s*(?P<word>==|=|!=)\s*(?P<value>[^\s!=,()]*)")
_EXISTS = re.compile(r"(?P<no>!?)\s*(?P<key>[^\s!=,()]+)")
_COMMA = re.compile(r",(?![^(]*\))")
FIELDS: Mapping[str, frozenset[str]] = {
    "Pod": frozenset(
        {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName"}
        | {"status.phase", "status.podIP", "status.nominatedNodeName"}
    ),
    "Event": frozenset(
        {f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")}
        | {"reason", "reportingComponent", "source", "type"}
    ),
    "Job": frozenset({"status.successful"}),
    "Node": frozenset({"spec.unschedulable"}),
    "Namespace": frozenset({"status.phase"}),
    "Secret": frozenset({"type"}),
}
"""Fields that can be selected, beside name and namespace."""


def parse_labels(text: str) -> Callable[[Labels], bool]:
    """`a=b,c in (d,e),!f` as a question about labels. Raises Refused (400)."""
    tests: list[Callable[[Labels], bool]] = []
    for part in _COMMA.split(text):
        part = part.strip()
        if not part:
            continue
        if found := _SET.fullmatch(part):
            values = frozenset(value.strip() for value in found["values"].split(","))
            tests.append(_among(found["key"], values, wanted=found["word"] == "in"))
        elif found := _EQUAL.fullmatch(part):
            tests.append(_among(found["key"], frozenset({found["value"]}), wanted=found["word"] != "!="))
        elif found := _EXISTS.fullmatch(part):
            tests.append(_exists(found["key"], wanted=not found["no"]))
        else:
            raise bad_request(f"unable to parse requirement: {part!r} is not one")
    return lambda labels: all(test(labels) for test in tests)


def label_selector(selector: Mapping[str, Any] | None) -> Callable[[Labels], bool]:
    """A LabelSelector of an object. None selects nothing, an empty one everything."""
    if selector is None:
        return lambda labels: False
    tests = [
        _among(key, frozenset({value}), wanted=True)
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for rule in selector.get("matchExpressions") or ():
        if rule["operator"] in ("In", "NotIn"):
            tests.append(_among(rule["key"], frozenset(rule["values"]), wanted=rule["operator"] == "In"))
        else:
            tests.append(_exists(rule["key"], wanted=rule["operator"] == "Exists"))
    return lambda labels: all(test(labels) for test in tests)


def parse_fields(text: str, *, kind: str) -> Callable[[Mapping[str, Any]], bool]:
    """`metadata.name=a,status.phase!=Running` as a question about objects. Raises Refused (400)."""
    known = FIELDS.get(kind, frozenset()) | {"metadata.name", "metadata.namespace"}
    tests = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _EQUAL.fullmatch(part)
        if found is None:
            raise bad_request(f"invalid selector: {part!r}; can't understand it")
        if found["key"] not in known:
            names = ", ".join(f'"{name}"' for name in ("metadata.name", "metadata.namespace"))
            raise bad_request(f'"{found["key"]}" is not a known field selector: only {names}')
        tests.append((found["key"].split("."), found["value"], found["word"] != "!="))
    return lambda value: all((_at(value, path) == wanted) is same for path, wanted, same in tests)


def _among(key: str, values: frozenset[str], *, wanted: bool) -> Callable[[Labels], bool]:
    return lambda labels: (labels.get(key) in values) is wanted


def _exists(key: str, *, wanted: bool) -> Callable[[Labels], bool]:
    return lambda labels: (key in labels) is wanted


def _at(value: Any, path: list[str]) -> str:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
