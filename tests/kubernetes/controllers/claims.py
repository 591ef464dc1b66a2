"""Binds claims to volumes: by the name that the claim or the volume gives, else by class, size and access."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from deployments.clusters.quantities import parse
from tests.kubernetes.api.server import Server, Write
from tests.kubernetes.api.store import Change, Stored
from tests.kubernetes.controllers.pods import MANAGER


class Claims:
    """The binder of persistent volumes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._claims, self._volumes = server.kinds["PersistentVolumeClaim"], server.kinds["PersistentVolume"]

    def concerned(self, change: Change) -> Iterable[Hashable]:
        there = change.after or change.before
        assert there is not None
        if change.kind is self._claims:
            if change.after is None and (name := there.value["spec"].get("volumeName")):
                return [("volume", name)]
            return [("claim", there.key)]
        if change.kind is self._volumes:
            return [
                ("claim", item.key) for item in self._server.store.each(self._claims) if not _is_bound(item)
            ]
        return []

    def reconcile(self, key: Hashable) -> float | None:
        what, name = key  # type: ignore[misc]
        if what == "volume":
            volume = self._server.store.get(self._volumes, "", name)
            if volume is not None:
                self._server.set_status(volume, {"phase": "Released"}, manager=MANAGER)
            return None
        claim = self._server.store.get(self._claims, *name)
        if claim is None or claim.is_deleting or _is_bound(claim):
            return None
        volume = next((item for item in self._server.store.all(self._volumes) if _fits(claim, item)), None)
        if volume is not None:
            self._bind(claim, volume)
        return None

    def _bind(self, claim: Stored, volume: Stored) -> None:
        server, write = self._server, Write(manager=MANAGER)
        reference = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": claim.namespace,
            "name": claim.name,
            "uid": claim.uid,
        }
        volume = server.patch(self._volumes, "", volume.name, {"spec": {"claimRef": reference}}, write)
        server.set_status(volume, {"phase": "Bound"}, manager=MANAGER)
        claim = server.patch(self._claims, *claim.key, {"spec": {"volumeName": volume.name}}, write)
        status = {
            "phase": "Bound",
            "accessModes": volume.value["spec"].get("accessModes", []),
            "capacity": volume.value["spec"].get("capacity", {}),
        }
        server.set_status(claim, status, manager=MANAGER)


def _is_bound(claim: Stored) -> bool:
    return (claim.value.get("status") or {}).get("phase") == "Bound"


def _fits(claim: Stored, volume: Stored) -> bool:
    wish, offer = claim.value["spec"], volume.value["spec"]
    holder: dict[str, Any] = offer.get("claimRef") or {}
    if holder and (holder.get("namespace"), holder.get("name")) != claim.key:
        return False
    if holder.get("uid") not in (None, claim.uid):
        return False
    if wish.get("volumeName"):
        return bool(wish["volumeName"] == volume.name)
    asked = ((wish.get("resources") or {}).get("requests") or {}).get("storage", 0)
    return (
        (wish.get("storageClassName") or "") == (offer.get("storageClassName") or "")
        and set(wish.get("accessModes") or ()) <= set(offer.get("accessModes") or ())
        and parse(asked) <= parse((offer.get("capacity") or {}).get("storage", 0))
    )
