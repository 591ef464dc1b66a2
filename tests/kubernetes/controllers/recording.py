"""Events: what controllers say of objects, as `kubectl describe` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.kubernetes.api.server import Server
from tests.kubernetes.api.store import Stored


class Recorder:
    """Writes the events of one component; the same thing said again counts up."""

    def __init__(self, server: Server, component: str) -> None:
        self._server = server
        self._component = component
        self._said: dict[tuple[str, str, str], str] = {}

    def record(self, about: Stored, reason: str, message: str, *, warning: bool = False) -> None:
        """Says something about an object."""
        server, kind = self._server, self._server.kinds["Event"]
        namespace, key = about.namespace or "default", (about.uid, reason, message)
        name = self._said.get(key, "")
        live = server.store.get(kind, namespace, name)
        if live is not None:
            again = {**live.value, "count": live.value["count"] + 1, "lastTimestamp": server.stamp()}
            server.store.put(kind, again, ())
            return
        where = server.store.get(server.kinds["Namespace"], "", namespace)
        if where is None or where.is_deleting:
            return  # nobody will read it
        name = f"{about.name}.{server.dice.getrandbits(64):016x}"
        type_ = "Warning" if warning else "Normal"
        # Put, not created: what the cluster's own components say needs no validation.
        server.store.put(kind, self._event(about, namespace, name, reason, message, type_), ())
        self._said[key] = name

    def _event(
        self, about: Stored, namespace: str, name: str, reason: str, message: str, type_: str
    ) -> Mapping[str, Any]:
        now = self._server.stamp()
        return {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": self._server.new_uid(),
                "creationTimestamp": now,
            },
            "involvedObject": {
                "kind": about.kind.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
                "apiVersion": about.kind.api_version,
                "resourceVersion": about.metadata["resourceVersion"],
            },
            "reason": reason,
            "message": message,
            "source": {"component": self._component},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": type_,
            "reportingComponent": self._component,
            "reportingInstance": "",
        }
