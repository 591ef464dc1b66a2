"""Events: what controllers say of objects, as `kubectl describe` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.kubernetes.api.refusals import Refused
from tests.kubernetes.api.server import Server, Write
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
        try:
            if live is not None:
                again = {**live.value, "count": live.value["count"] + 1, "lastTimestamp": server.stamp()}
                server.replace(kind, namespace, name, again, Write(manager=self._component))
                return
            name = f"{about.name}.{server.dice.getrandbits(64):016x}"
            value = self._event(about, name, reason, message, "Warning" if warning else "Normal")
            server.create(kind, namespace, value, Write(manager=self._component))
            self._said[key] = name
        except Refused:
            return  # the namespace is going: nobody will read it

    def _event(self, about: Stored, name: str, reason: str, message: str, type_: str) -> Mapping[str, Any]:
        now = self._server.stamp()
        return {
            "metadata": {"name": name},
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
