"""The objects of the stand-in, their revisions and the history that watches replay.

Values are never changed in place: a new version is a new `Stored`, so that lists, watches and controllers
share them safely.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.api.kinds import Kind
from tests.kubernetes.api.ownership import Owner

Key = tuple[str, str]
"""(namespace, name); the namespace of a cluster-wide object is empty."""
HISTORY = 20_000
"""Changes that a watch can begin before; older ones are answered with 410 Gone."""


class Stored:
    """One version of one object."""

    __slots__ = ("_body", "kind", "owners", "revision", "value")

    def __init__(
        self, kind: Kind, value: Mapping[str, Any], *, owners: tuple[Owner, ...], revision: int
    ) -> None:
        self.kind = kind
        self.value = value
        """Without apiVersion, kind and managedFields, which are written when the object is sent."""
        self.owners = owners
        self.revision = revision
        self._body: bytes | None = None

    @property
    def metadata(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.value["metadata"]
        return found

    @property
    def name(self) -> str:
        return str(self.metadata["name"])

    @property
    def namespace(self) -> str:
        return str(self.metadata.get("namespace", ""))

    @property
    def uid(self) -> str:
        return str(self.metadata["uid"])

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @property
    def labels(self) -> Mapping[str, str]:
        return self.metadata.get("labels") or {}

    @property
    def is_deleting(self) -> bool:
        return "deletionTimestamp" in self.metadata

    @property
    def body(self) -> bytes:
        """JSON as an item of a list has it: without apiVersion and kind."""
        if self._body is None:
            value = dict(self.value)
            if self.owners:
                owners = [owner.as_json() for owner in self.owners]
                value["metadata"] = {**self.metadata, "managedFields": owners}
            self._body = json.dumps(value, separators=(",", ":")).encode()
        return self._body

    @property
    def full_body(self) -> bytes:
        """JSON as a single answer or a watch event has it."""
        head = f'{{"kind":"{self.kind.kind}","apiVersion":"{self.kind.api_version}",'
        return head.encode() + self.body[1:]


@dataclass(frozen=True)
class Change:
    """One step of the history."""

    revision: int
    kind: Kind
    before: Stored | None
    """None when the object was made."""
    after: Stored | None
    """None when it was removed; `before` then is its last state, under the revision of the removal."""


class Store:
    """All objects. Used from one thread."""

    def __init__(self, *, history: int = HISTORY) -> None:
        self.revision = 1
        self.history: deque[Change] = deque(maxlen=history)
        self.oldest = 0
        """Revision before which no watch can begin."""
        # By namespace, as etcd's keys are: a list of one namespace does not walk through the others.
        self._objects: dict[Kind, dict[str, dict[str, Stored]]] = defaultdict(lambda: defaultdict(dict))
        self._dependents: dict[str, dict[tuple[Kind, Key], None]] = defaultdict(dict)
        self.listeners: list[Callable[[Change], None]] = []

    # --- Reading -------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Stored | None:
        return self._objects[kind].get(namespace, {}).get(name)

    def all(self, kind: Kind, namespace: str = "") -> list[Stored]:
        """Sorted as etcd sorts them: by namespace, then name."""
        places = self._objects[kind]
        names = [namespace] if namespace else sorted(places)
        return [item for place in names for _, item in sorted(places.get(place, {}).items())]

    def each(self, kind: Kind) -> Iterator[Stored]:
        """In no order; the store may be changed meanwhile."""
        return iter([item for place in self._objects[kind].values() for item in place.values()])

    def count(self, kind: Kind) -> int:
        return sum(map(len, self._objects[kind].values()))

    def dependents(self, uid: str) -> list[Stored]:
        """Everything that names the object with this uid as its owner."""
        return [
            self._objects[kind][namespace][name] for kind, (namespace, name) in self._dependents.get(uid, ())
        ]

    def changes_after(self, revision: int) -> list[Change]:
        return [change for change in self.history if change.revision > revision]

    # --- Writing -------------------------------------------------------------------------------------------

    def put(self, kind: Kind, value: Mapping[str, Any], owners: tuple[Owner, ...]) -> Stored:
        """Stores a new version under the next revision."""
        self.revision += 1
        metadata = {**value["metadata"], "resourceVersion": str(self.revision)}
        stored = Stored(kind, {**value, "metadata": metadata}, owners=owners, revision=self.revision)
        place = self._objects[kind][stored.namespace]
        before = place.get(stored.name)
        if before is not None:
            self._forget(before)
        place[stored.name] = stored
        for reference in metadata.get("ownerReferences") or ():
            self._dependents[reference["uid"]][kind, stored.key] = None
        self._tell(Change(self.revision, kind, before, stored))
        return stored

    def remove(self, stored: Stored) -> Stored:
        """Removes the object; returns its last state, which carries the revision of its removal."""
        self.revision += 1
        place = self._objects[stored.kind][stored.namespace]
        self._forget(place.pop(stored.name))
        if not place:
            del self._objects[stored.kind][stored.namespace]
        metadata = {**stored.metadata, "resourceVersion": str(self.revision)}
        last = Stored(
            stored.kind,
            {**stored.value, "metadata": metadata},
            owners=stored.owners,
            revision=self.revision,
        )
        self._tell(Change(self.revision, stored.kind, last, None))
        return last

    def compact(self) -> None:
        """Forgets the history: what watches or pages through an older revision gets 410 Gone."""
        self.history.clear()
        self.oldest = self.revision

    def _forget(self, stored: Stored) -> None:
        for reference in stored.metadata.get("ownerReferences") or ():
            self._dependents[reference["uid"]].pop((stored.kind, stored.key), None)
            if not self._dependents[reference["uid"]]:
                del self._dependents[reference["uid"]]

    def _tell(self, change: Change) -> None:
        if len(self.history) == self.history.maxlen:
            self.oldest = self.history[0].revision
        self.history.append(change)
        for listener in self.listeners:
            listener(change)
