"""What becomes of the pods of a node that is not ready, silent or gone.

A kubelet renews a lease; a node without news counts as unreachable. Such nodes are tainted, their pods are no
longer ready, and after their toleration they are asked to go, which they do when a kubelet, or somebody with
force, confirms it. Pods of a node that was removed are removed too.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from datetime import datetime, timedelta
from typing import Any

from tests.kubernetes.api.server import Deletion, Server, Write
from tests.kubernetes.api.store import Change, Stored
from tests.kubernetes.controllers.manager import Pace
from tests.kubernetes.controllers.pods import condition, is_finished, with_condition
from tests.kubernetes.controllers.recording import Recorder
from tests.kubernetes.controllers.scheduling import tolerates

MANAGER = "kube-controller-manager"
LEASES = "kube-node-lease"
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


class Nodes:
    """The node lifecycle controller and the collector of orphaned pods."""

    def __init__(self, server: Server, pace: Pace) -> None:
        self._server, self._pace = server, pace
        self._kind, self._pods = server.kinds["Node"], server.kinds["Pod"]
        self._leases = server.kinds["Lease"]
        self._events = Recorder(server, "node-controller")
        self._by_node: dict[str, dict[tuple[str, str], None]] = {}

    def concerned(self, change: Change) -> Iterable[Hashable]:
        there = change.after or change.before
        assert there is not None
        if change.kind is self._kind:
            return [there.name]
        if change.kind is self._leases and there.namespace == LEASES and change.before is None:
            return [there.name]
        if change.kind is self._pods and (node := there.value["spec"].get("nodeName")):
            pods = self._by_node.setdefault(node, {})
            if change.after is None:
                pods.pop(there.key, None)
            else:
                new = there.key not in pods
                pods[there.key] = None
                live = self._server.store.get(self._kind, "", node)
                if live is None or (new and not _is_ready(live)):
                    return [node]
        return []

    def reconcile(self, key: Hashable) -> float | None:
        name = str(key)
        node = self._server.store.get(self._kind, "", name)
        if node is None:
            for pod in self._pods_of(name):
                self._server.delete(self._pods, *pod.key, Deletion(grace_seconds=0))
            return None
        again = self._check_lease(node)
        node = self._server.get(self._kind, "", name)
        ready = condition(node.value, "Ready").get("status")
        node = self._taint(node, ready)
        if ready in ("True", None):
            return again
        for pod in self._pods_of(name):
            self._unready(pod)
        evicted = self._evict(node)
        return min((item for item in (again, evicted) if item is not None), default=None)

    def _pods_of(self, name: str) -> list[Stored]:
        found = (self._server.store.get(self._pods, *key) for key in self._by_node.get(name, ()))
        return [pod for pod in found if pod is not None]

    def _check_lease(self, node: Stored) -> float | None:
        lease = self._server.store.get(self._leases, LEASES, node.name)
        if lease is None or not lease.value["spec"].get("renewTime"):
            return None
        renewed = datetime.fromisoformat(lease.value["spec"]["renewTime"])
        # By this machine's clock, as the lease was written: a skewed server must not lose all its nodes.
        left = (renewed + timedelta(seconds=self._pace.node_grace) - self._server.now()).total_seconds()
        if left > 0:
            return left
        status = node.value.get("status") or {}
        if condition(node.value, "Ready").get("status") != "Unknown":
            conditions = with_condition(
                self._server,
                status.get("conditions") or (),
                "Ready",
                "Unknown",
                reason="NodeStatusUnknown",
                message="Kubelet stopped posting node status.",
            )
            self._server.set_status(node, {**status, "conditions": conditions}, manager=MANAGER)
            message = f"Node {node.name} status is now: NodeNotReady"
            self._events.record(node, "NodeNotReady", message)
        return self._pace.node_grace / 4

    def _taint(self, node: Stored, ready: str | None) -> Stored:
        """Sets the taints that say how the node is, and removes those that no longer hold."""
        wrong = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(ready or "", "")
        spec = node.value.get("spec") or {}
        before = list(spec.get("taints") or ())
        kept = [
            item for item in before if item["key"] not in (NOT_READY, UNREACHABLE) or item["key"] == wrong
        ]
        known = {(item["key"], item["effect"]) for item in kept}
        if wrong:
            kept += [
                {"key": wrong, "effect": effect, "timeAdded": self._server.stamp()}
                for effect in ("NoSchedule", "NoExecute")
                if (wrong, effect) not in known
            ]
        if kept == before:
            return node
        patch = {"spec": {"taints": kept or None}}
        return self._server.patch(self._kind, "", node.name, patch, Write(manager=MANAGER))

    def _unready(self, pod: Stored) -> None:
        status = pod.value.get("status") or {}
        if is_finished(pod) or condition(pod.value, "Ready").get("status") != "True":
            return
        conditions = with_condition(
            self._server, status["conditions"], "Ready", "False", reason="NodeNotReady"
        )
        self._server.set_status(pod, {**status, "conditions": conditions}, manager=MANAGER)
        self._events.record(pod, "NodeNotReady", "Node is not ready", warning=True)

    def _evict(self, node: Stored) -> float | None:
        """Asks pods to go that have been tolerant for long enough. Seconds until the next has."""
        taints = [item for item in node.value["spec"].get("taints") or () if item["effect"] == "NoExecute"]
        again = None
        for pod in self._pods_of(node.name):
            if pod.is_deleting or is_finished(pod):
                continue
            left = min((self._patience(pod, taint) for taint in taints), default=float("inf"))
            if left <= 0:
                self._go(pod, node)
            elif left != float("inf"):
                again = min(again or left, left)
        return again

    def _patience(self, pod: Stored, taint: dict[str, Any]) -> float:
        tolerations = pod.value["spec"].get("tolerations") or ()
        mine = [item for item in tolerations if tolerates([item], taint)]
        if not mine:
            return 0.0
        seconds = [item["tolerationSeconds"] for item in mine if "tolerationSeconds" in item]
        if not seconds or not taint.get("timeAdded"):
            return float("inf")
        pace = self._pace.toleration
        wait = min(seconds) if pace is None else min(pace, *seconds)
        since = datetime.fromisoformat(taint["timeAdded"])
        return (since + timedelta(seconds=wait) - self._server.time()).total_seconds()

    def _go(self, pod: Stored, node: Stored) -> None:
        status = pod.value.get("status") or {}
        message = "Taint manager: deleting due to NoExecute taint"
        conditions = with_condition(
            self._server,
            status.get("conditions") or (),
            "DisruptionTarget",
            "True",
            reason="DeletionByTaintManager",
            message=message,
        )
        pod = self._server.set_status(pod, {**status, "conditions": conditions}, manager=MANAGER)
        self._events.record(
            pod, "TaintManagerEviction", f"Marking for deletion Pod {pod.namespace}/{pod.name}"
        )
        self._server.delete(self._pods, *pod.key)


def _is_ready(node: Stored) -> bool:
    return condition(node.value, "Ready").get("status") in ("True", None)
