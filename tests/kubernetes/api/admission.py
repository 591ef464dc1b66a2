"""Admission: what is refused, or filled in, although the object itself is in order.

Namespaces (missing, being deleted), ResourceQuota, LimitRange, addresses of Services, and whatever a test
plugs in by `reject`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tests.kubernetes.api import refusals
from tests.kubernetes.api.kinds import Kind
from tests.kubernetes.api.podsecurity import violations
from tests.kubernetes.api.quotas import Quotas, check_limits, with_limits
from tests.kubernetes.api.refusals import Refused

if TYPE_CHECKING:
    from tests.kubernetes.api.server import Server

Webhook = Callable[[str, Kind, Mapping[str, Any]], str | None]
"""(CREATE, UPDATE or DELETE; kind; object) -> why it is denied, or None."""


class Admission:
    """The admission chain of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.quotas = Quotas(server.store, server.kinds["ResourceQuota"])
        self._webhooks: dict[str, Webhook] = {}
        self._addresses = 1

    def reject(self, name: str, webhook: Webhook | None) -> None:
        """Adds an admission webhook under a name, or removes it (None)."""
        if webhook is None:
            self._webhooks.pop(name, None)
        else:
            self._webhooks[name] = webhook

    def check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        """Whether something new may be made in the namespace. Raises Refused (404, 403)."""
        if not kind.namespaced:
            return
        found = self._server.store.get(self._server.kinds["Namespace"], "", namespace)
        if found is None:
            raise refusals.not_found("namespaces", "", namespace)
        if found.is_deleting:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            raise refusals.forbidden(kind.plural, kind.group, name, why, causes=[cause])

    def mutated(self, kind: Kind, value: dict[str, Any]) -> dict[str, Any]:
        """A new object with what admission fills in."""
        namespace = value["metadata"].get("namespace", "")
        if kind.kind == "Pod":
            ranges = self._server.store.all(self._server.kinds["LimitRange"], namespace)
            return {**value, "spec": with_limits(value["spec"], ranges)} if ranges else value
        if kind.kind == "Service" and value["spec"]["type"] != "ExternalName":
            address = value["spec"].get("clusterIP") or self._address()
            return {**value, "spec": {**value["spec"], "clusterIP": address, "clusterIPs": [address]}}
        return value

    def check(self, verb: str, kind: Kind, value: Mapping[str, Any]) -> None:
        """Raises Refused (403) when the object may not be made, changed or deleted."""
        for name, webhook in self._webhooks.items():
            if why := webhook(verb, kind, value):
                message = f'admission webhook "{name}" denied the request: {why}'
                raise Refused(403, message)
        if verb != "CREATE" or not kind.namespaced:
            return
        metadata = value["metadata"]
        namespace = metadata["namespace"]
        if kind.kind == "Pod":
            self._check_pod(namespace, metadata["name"], value["spec"])
        self.quotas.check(kind, namespace, value)

    def settle(self) -> None:
        """Writes the numbers of quotas that changed. Called by the server after each write."""
        store, kind = self._server.store, self._server.kinds["ResourceQuota"]
        while self.quotas.stale:
            for quota in store.all(kind, self.quotas.stale.pop()):
                status = self.quotas.status(quota)
                if status != quota.value.get("status"):
                    store.put(kind, {**quota.value, "status": status}, quota.owners)
                    self.quotas.stale.discard(quota.namespace)

    def _check_pod(self, namespace: str, name: str, spec: Mapping[str, Any]) -> None:
        kinds, store = self._server.kinds, self._server.store
        found = store.get(kinds["Namespace"], "", namespace)
        level = found.labels.get("pod-security.kubernetes.io/enforce", "") if found else ""
        if wrong := violations(level, spec):
            why = f'violates PodSecurity "{level}:latest": {", ".join(wrong)}'
            raise refusals.forbidden("pods", "", name, why)
        if ranges := store.all(kinds["LimitRange"], namespace):
            check_limits(name, spec, ranges)

    def _address(self) -> str:
        self._addresses += 1
        return f"10.96.{self._addresses // 250}.{self._addresses % 250 + 1}"
