"""Objects as the answer to what a client accepts: whole, metadata alone, or rows of a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.kubernetes.api.kinds import Kind
from tests.kubernetes.api.store import Stored

WHOLE, PARTIAL, TABLE = "whole", "partial", "table"
_META = '"apiVersion":"meta.k8s.io/v1"'


def form_of(accept: str) -> str:
    """Which form an Accept header asks for first among those we have."""
    for part in accept.split(","):
        words = part.replace(" ", "").split(";")
        if words[0] != "application/json":
            continue
        if "as=Table" in words:
            return TABLE
        if "as=PartialObjectMetadata" in words or "as=PartialObjectMetadataList" in words:
            return PARTIAL
        return WHOLE
    return WHOLE


def one(stored: Stored, form: str) -> bytes:
    """One object: an answer, or the object of a watch event."""
    if form == TABLE:
        return _dump(_table(stored.kind, [stored], revision=stored.metadata["resourceVersion"]))
    if form == PARTIAL:
        head = f'{{"kind":"PartialObjectMetadata",{_META},"metadata":'
        return head.encode() + _metadata(stored) + b"}"
    return stored.full_body


def many(kind: Kind, items: Sequence[Stored], form: str, *, revision: int, rest: str, left: int) -> bytes:
    """A list. `rest` is the continue token, `left` how many come after this page."""
    metadata: dict[str, Any] = {"resourceVersion": str(revision)}
    if rest:
        metadata |= {"continue": rest, "remainingItemCount": left}
    if form == TABLE:
        table = _table(kind, items, revision=str(revision))
        return _dump({**table, "metadata": metadata})
    if form == PARTIAL:
        head = f'{{"kind":"PartialObjectMetadataList",{_META},'
        bodies = [b'{"metadata":' + _metadata(item) + b"}" for item in items]
    else:
        head = f'{{"kind":"{kind.kind}List","apiVersion":"{kind.api_version}",'
        bodies = [item.body for item in items]
        if kind.validation:  # custom resources name their kind in lists too
            bodies = [item.full_body for item in items]
    return b"".join((head.encode(), b'"metadata":', _dump(metadata), b',"items":[', b",".join(bodies), b"]}"))


def _metadata(stored: Stored) -> bytes:
    return _dump(json.loads(stored.body)["metadata"])


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


Cells = Callable[[Mapping[str, Any]], list[Any]]


def _table(kind: Kind, items: Sequence[Stored], *, revision: str) -> dict[str, Any]:
    names, cells = _COLUMNS.get(kind.kind, ((), lambda value: []))
    columns = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else "", "priority": 0}
        for name in ("Name", *names, "Age")
    ]
    rows = [
        {
            "cells": [item.name, *cells(item.value), _age(item)],
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": dict(item.metadata),
            },
        }
        for item in items
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": revision},
        "columnDefinitions": columns,
        "rows": rows,
    }


def _age(stored: Stored) -> str:
    made = datetime.fromisoformat(stored.metadata["creationTimestamp"])
    seconds = int((datetime.now(UTC) - made).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _pod(value: Mapping[str, Any]) -> list[Any]:
    status = value.get("status") or {}
    containers = status.get("containerStatuses") or []
    ready = sum(bool(item.get("ready")) for item in containers)
    reason = status.get("reason") or status.get("phase", "")
    for item in containers:
        for state in ("waiting", "terminated"):
            reason = ((item.get("state") or {}).get(state) or {}).get("reason") or reason
    if "deletionTimestamp" in value["metadata"]:
        reason = "Terminating"
    restarts = sum(item.get("restartCount", 0) for item in containers)
    return [f"{ready}/{len(value['spec']['containers'])}", reason, restarts]


def _deployment(value: Mapping[str, Any]) -> list[Any]:
    status = value.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{value['spec'].get('replicas', 1)}"
    return [ready, status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]


def _job(value: Mapping[str, Any]) -> list[Any]:
    status = value.get("status") or {}
    ended = [item["type"] for item in status.get("conditions") or () if item["status"] == "True"]
    done = f"{status.get('succeeded', 0)}/{value['spec'].get('completions', 1)}"
    return [ended[-1] if ended else "Running", done]


def _node(value: Mapping[str, Any]) -> list[Any]:
    conditions = {
        item["type"]: item["status"] for item in (value.get("status") or {}).get("conditions") or ()
    }
    return ["Ready" if conditions.get("Ready") == "True" else "NotReady"]


_COLUMNS: Mapping[str, tuple[tuple[str, ...], Cells]] = {
    "Pod": (("Ready", "Status", "Restarts"), _pod),
    "Deployment": (("Ready", "Up-to-date", "Available"), _deployment),
    "Job": (("Status", "Completions"), _job),
    "Node": (("Status",), _node),
    "Namespace": (("Status",), lambda value: [(value.get("status") or {}).get("phase", "")]),
}
