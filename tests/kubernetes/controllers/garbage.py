"""What goes when something else has gone: dependents of owners, and contents of namespaces."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from tests.kubernetes.api.server import Deletion, Server
from tests.kubernetes.api.store import Change, Stored

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class Garbage:
    """The garbage collector: follows owner references."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def concerned(self, change: Change) -> Iterable[Hashable]:
        there = change.after or change.before
        assert there is not None
        keys: list[Hashable] = []
        if change.after is None or there.is_deleting:
            keys.append((there.kind, there.key, there.uid))
        references = there.metadata.get("ownerReferences") or ()
        if references and (change.before is None or change.after is None):
            # A new orphan, or the last dependent of an owner that waits for it.
            for reference in references:
                kind = self._server.kinds.named(reference["apiVersion"], reference["kind"])
                if kind is not None:
                    namespace = there.namespace if kind.namespaced else ""
                    keys.append((kind, (namespace, reference["name"]), reference["uid"]))
        return keys

    def reconcile(self, key: Hashable) -> float | None:
        kind, (namespace, name), uid = key  # type: ignore[misc]
        owner = self._server.store.get(kind, namespace, name)
        if owner is not None and owner.uid != uid:
            owner = None
        if owner is None:
            for item in self._server.store.dependents(uid):
                self._lose_owner(item, uid)
        elif owner.is_deleting:
            self._let_go(owner)
        return None

    def _let_go(self, owner: Stored) -> None:
        finalizers = owner.metadata.get("finalizers") or ()
        dependents = self._server.store.dependents(owner.uid)
        if ORPHAN in finalizers:
            for item in dependents:
                references = [
                    reference
                    for reference in item.metadata["ownerReferences"]
                    if reference["uid"] != owner.uid
                ]
                self._server.set_metadata(item, ownerReferences=references)
            self._server.set_metadata(owner, finalizers=[name for name in finalizers if name != ORPHAN])
            return
        if FOREGROUND not in finalizers:
            return
        for item in dependents:
            if not item.is_deleting:
                self._server.delete(item.kind, *item.key, Deletion(propagation="Foreground"))
        blocking = [
            item
            for item in self._server.store.dependents(owner.uid)
            if any(
                reference["uid"] == owner.uid and reference.get("blockOwnerDeletion")
                for reference in item.metadata["ownerReferences"]
            )
        ]
        if not blocking:
            left = [name for name in finalizers if name != FOREGROUND]
            self._server.set_metadata(self._server.get(owner.kind, *owner.key), finalizers=left)

    def _lose_owner(self, item: Stored, uid: str) -> None:
        references = item.metadata["ownerReferences"]
        others = [reference for reference in references if reference["uid"] != uid]
        if any(self._exists(item, reference) for reference in others):
            self._server.set_metadata(item, ownerReferences=others)
        elif not item.is_deleting:
            self._server.delete(item.kind, *item.key, Deletion(propagation="Background"))

    def _exists(self, item: Stored, reference: dict[str, str]) -> bool:
        kind = self._server.kinds.named(reference["apiVersion"], reference["kind"])
        if kind is None:
            return False
        found = self._server.store.get(kind, item.namespace if kind.namespaced else "", reference["name"])
        return found is not None and found.uid == reference["uid"]


class Namespaces:
    """Empties namespaces that are being deleted, and lets them go when they are empty."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._kind = server.kinds["Namespace"]

    def concerned(self, change: Change) -> Iterable[Hashable]:
        there = change.after or change.before
        assert there is not None
        if change.kind is self._kind:
            return [there.name] if there.is_deleting else []
        if change.after is None and there.namespace:
            found = self._server.store.get(self._kind, "", there.namespace)
            return [there.namespace] if found is not None and found.is_deleting else []
        return []

    def reconcile(self, key: Hashable) -> float | None:
        live = self._server.store.get(self._kind, "", str(key))
        if live is None or not live.is_deleting:
            return None
        left = 0
        for kind in list(self._server.kinds):
            if not kind.namespaced:
                continue
            for item in self._server.store.all(kind, live.name):
                if not item.is_deleting:
                    self._server.delete(kind, *item.key, Deletion(propagation="Background"))
            left += len(self._server.store.all(kind, live.name))
        if not left:
            self._server.finalize_namespace(live)
        return None
