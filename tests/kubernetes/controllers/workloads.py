"""Deployments, by way of ReplicaSets, as in Kubernetes: which pods there should be, and how it is going.

Rolling updates follow maxSurge and maxUnavailable: pods of a changed template come first, and old ones go
while enough others are ready.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.kubernetes.api.refusals import Refused
from tests.kubernetes.api.server import SUFFIX_LETTERS, Server, Write
from tests.kubernetes.api.store import Change, Stored
from tests.kubernetes.controllers.pods import (
    MANAGER,
    adopt,
    condition,
    controller_of,
    is_active,
    is_ready,
    make_pod,
    owner_reference,
    pods_of,
    with_condition,
)
from tests.kubernetes.controllers.recording import Recorder

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


def template_hash(template: Mapping[str, Any]) -> str:
    """Names a pod template."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(SUFFIX_LETTERS[byte % len(SUFFIX_LETTERS)] for byte in digest[:10])


class ReplicaSets:
    """Makes and removes the pods of ReplicaSets."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._kind = server.kinds["ReplicaSet"]
        self._events = Recorder(server, "replicaset-controller")

    def concerned(self, change: Change) -> Iterable[Hashable]:
        there = change.after or change.before
        assert there is not None
        if change.kind is self._kind:
            return [there.key]
        if change.kind.kind == "Pod":
            owner = controller_of(there.value)
            if owner and owner["kind"] == "ReplicaSet":
                return [(there.namespace, owner["name"])]
        return []

    def reconcile(self, key: Hashable) -> float | None:
        namespace, name = key  # type: ignore[misc]
        live = self._server.store.get(self._kind, namespace, name)
        if live is None or live.is_deleting:
            return None
        adopt(self._server, live, self._server.kinds["Pod"])
        pods = pods_of(self._server, live)
        active = [pod for pod in pods if is_active(pod)]
        wanted = live.value["spec"].get("replicas", 1)
        failure = ""
        for _ in range(wanted - len(active)):
            try:
                pod = make_pod(self._server, live, live.value["spec"]["template"])
            except Refused as refused:
                failure = f"Error creating: {refused}"
                self._events.record(live, "FailedCreate", failure, warning=True)
                break
            self._events.record(live, "SuccessfulCreate", f"Created pod: {pod.name}")
        for pod in sorted(active, key=_worth)[: max(0, len(active) - wanted)]:
            self._server.delete(pod.kind, pod.namespace, pod.name)
            self._events.record(live, "SuccessfulDelete", f"Deleted pod: {pod.name}")
        live = self._server.get(self._kind, namespace, name)
        self._server.set_status(live, self._status(live, failure), manager=MANAGER)
        return 1.0 if failure else None

    def _status(self, live: Stored, failure: str) -> dict[str, Any]:
        active = [pod for pod in pods_of(self._server, live) if is_active(pod)]
        ready = sum(is_ready(pod) for pod in active)
        status: dict[str, Any] = {
            "replicas": len(active),
            "fullyLabeledReplicas": len(active),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": live.metadata["generation"],
        }
        status = {name: value for name, value in status.items() if value or name == "replicas"}
        if failure:
            message = failure.removeprefix("Error creating: ")
            status["conditions"] = with_condition(
                self._server,
                (live.value.get("status") or {}).get("conditions") or (),
                "ReplicaFailure",
                "True",
                reason="FailedCreate",
                message=message,
            )
        return status


def _worth(pod: Stored) -> tuple[bool, bool, str]:
    """Sorts the pod that is missed least first."""
    return (bool(pod.value["spec"].get("nodeName")), is_ready(pod), pod.name)


class Deployments:
    """Makes ReplicaSets of Deployments and moves pods from old ones to the new one."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._kind = server.kinds["Deployment"]
        self._sets = server.kinds["ReplicaSet"]
        self._events = Recorder(server, "deployment-controller")
        self._steps: dict[tuple[str, str, str], datetime] = {}
        """When a rollout (uid, generation) first had so many ready pods."""

    def concerned(self, change: Change) -> Iterable[Hashable]:
        there = change.after or change.before
        assert there is not None
        if change.kind is self._kind:
            return [there.key]
        if change.kind is self._sets:
            owner = controller_of(there.value)
            if owner and owner["kind"] == "Deployment":
                return [(there.namespace, owner["name"])]
        return []

    def reconcile(self, key: Hashable) -> float | None:
        namespace, name = key  # type: ignore[misc]
        live = self._server.store.get(self._kind, namespace, name)
        if live is None or live.is_deleting:
            return None
        adopt(self._server, live, self._sets)
        sets = self._owned(live)
        current = self._current(live, sets)
        old = [item for item in sets if item.key != current.key]
        if not live.value["spec"].get("paused"):
            self._move(live, current, old)
        live = self._server.get(self._kind, namespace, name)
        self._prune(live, current)
        return self._report(live, self._server.get(self._sets, *current.key))

    def _owned(self, live: Stored) -> list[Stored]:
        found = self._server.store.dependents(live.uid)
        return [item for item in found if item.kind is self._sets and not item.is_deleting]

    def _current(self, live: Stored, sets: list[Stored]) -> Stored:
        """The ReplicaSet of the present template, made if there is none."""
        template = live.value["spec"]["template"]
        digest = template_hash(template)
        for item in sets:
            if item.labels.get(HASH_LABEL) == digest:
                return item
        number = 1 + max((int(item.metadata["annotations"][REVISION]) for item in sets), default=0)
        labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: digest}
        selector = live.value["spec"]["selector"]
        value = {
            "metadata": {
                "name": f"{live.name}-{digest}",
                "labels": labels,
                "annotations": {REVISION: str(number)},
                "ownerReferences": [owner_reference(live)],
            },
            "spec": {
                "replicas": 0,
                "selector": {
                    **selector,
                    "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: digest},
                },
                "template": {
                    **template,
                    "metadata": {**(template.get("metadata") or {}), "labels": labels},
                },
            },
        }
        write = Write(manager=MANAGER, tracked=False)
        made = self._server.create(self._sets, live.namespace, value, write)
        annotations = {**(live.metadata.get("annotations") or {}), REVISION: str(number)}
        self._server.set_metadata(live, annotations=annotations)
        return made

    def _move(self, live: Stored, current: Stored, old: list[Stored]) -> None:
        spec = live.value["spec"]
        wanted = int(spec.get("replicas", 1))
        strategy = spec["strategy"]
        old_total = sum(_replicas(item) for item in old)
        if strategy["type"] == "Recreate":
            for item in old:
                self._scale(live, item, 0)
            left = [pod for item in old for pod in pods_of(self._server, item) if not _is_over(pod)]
            if not left:
                self._scale(live, current, wanted)
            return
        rolling = strategy.get("rollingUpdate") or {}
        surge = _share(rolling.get("maxSurge", "25%"), wanted, math.ceil)
        unavailable = _share(rolling.get("maxUnavailable", "25%"), wanted, math.floor)
        if not surge and not unavailable:
            unavailable = 1
        # 1. More of the new template, as far as the surge allows.
        room = wanted + surge - old_total - _replicas(current)
        if _replicas(current) < wanted:
            self._scale(live, current, min(wanted, _replicas(current) + max(0, room)))
        elif _replicas(current) > wanted:
            self._scale(live, current, wanted)
        # 2. Fewer of the old: those that are not ready at once, the others while enough are.
        pods = {item.key: [pod for pod in pods_of(self._server, item) if is_active(pod)] for item in old}
        fresh = [pod for pod in pods_of(self._server, current) if is_active(pod)]
        ready = sum(is_ready(pod) for found in (*pods.values(), fresh) for pod in found)
        spare = ready - (wanted - unavailable)
        for item in old:
            count = len(pods[item.key])
            serving = sum(is_ready(pod) for pod in pods[item.key])
            keep = serving - max(0, min(spare, serving))
            spare -= serving - keep
            if _replicas(item) > keep and (count > keep or keep == 0):
                self._scale(live, item, keep)

    def _scale(self, live: Stored, item: Stored, replicas: int) -> None:
        before = _replicas(item)
        if before == replicas:
            return
        item = self._server.get(self._sets, *item.key)
        self._server.scale(item, {"spec": {"replicas": replicas}}, Write(manager=MANAGER, tracked=False))
        way = "up" if replicas > before else "down"
        message = f"Scaled {way} replica set {item.name} from {before} to {replicas}"
        self._events.record(live, "ScalingReplicaSet", message)

    def _prune(self, live: Stored, current: Stored) -> None:
        kept = int(live.value["spec"].get("revisionHistoryLimit", 10))
        over = [
            item
            for item in self._owned(live)
            if item.key != current.key and not _replicas(item) and not pods_of(self._server, item)
        ]
        over.sort(key=lambda item: int(item.metadata["annotations"][REVISION]), reverse=True)
        for item in over[kept:]:
            self._server.delete(self._sets, *item.key)

    def _report(self, live: Stored, current: Stored) -> float | None:
        sets = self._owned(live)
        active = {item.key: [pod for pod in pods_of(self._server, item) if is_active(pod)] for item in sets}
        everything = [pod for found in active.values() for pod in found]
        wanted = int(live.value["spec"].get("replicas", 1))
        updated = active.get(current.key, [])
        ready = sum(is_ready(pod) for pod in everything)
        terminating = sum(
            pod.is_deleting for item in sets for pod in pods_of(self._server, item) if not _is_over(pod)
        )
        status: dict[str, Any] = {
            "observedGeneration": live.metadata["generation"],
            "replicas": len(everything),
            "updatedReplicas": len(updated),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(0, wanted - ready),
            "terminatingReplicas": terminating,
        }
        status = {name: value for name, value in status.items() if value or name == "terminatingReplicas"}
        done = len(updated) == wanted == len(everything) and sum(map(is_ready, updated)) == wanted
        conditions, again = self._conditions(live, current, ready=ready, wanted=wanted, done=done)
        self._server.set_status(live, {**status, "conditions": conditions}, manager=MANAGER)
        return again

    def _conditions(
        self, live: Stored, current: Stored, *, ready: int, wanted: int, done: bool
    ) -> tuple[list[dict[str, Any]], float | None]:
        server = self._server
        found = list((live.value.get("status") or {}).get("conditions") or ())
        rolling = live.value["spec"]["strategy"].get("rollingUpdate") or {}
        missing = _share(rolling.get("maxUnavailable", "25%"), wanted, math.floor)
        enough = ready >= wanted - missing
        found = with_condition(
            server,
            found,
            "Available",
            "True" if enough else "False",
            reason="MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            message=f"Deployment {'has' if enough else 'does not have'} minimum availability.",
        )
        again = None
        if done:
            message = f'ReplicaSet "{current.name}" has successfully progressed.'
            found = with_condition(
                server, found, "Progressing", "True", reason="NewReplicaSetAvailable", message=message
            )
        else:
            found, again = self._progress(live, current, found)
        failure = condition(current.value, "ReplicaFailure")
        found = [item for item in found if item["type"] != "ReplicaFailure"]
        return [*found, dict(failure)] if failure else found, again

    def _progress(
        self, live: Stored, current: Stored, found: list[Any]
    ) -> tuple[list[dict[str, Any]], float | None]:
        """The condition Progressing while a rollout goes on: its deadline counts from the last step."""
        server = self._server
        before = condition(live.value, "Progressing")
        seen = str(len([pod for pod in pods_of(server, current) if is_ready(pod)]))
        generation = str(live.metadata["generation"])
        message = f'ReplicaSet "{current.name}" is progressing.'
        deadline = timedelta(seconds=live.value["spec"].get("progressDeadlineSeconds", 600))
        key = (live.uid, generation, seen)
        since = self._steps.setdefault(key, server.time())
        left = (since + deadline - server.time()).total_seconds()
        if left <= 0:
            message = f'ReplicaSet "{current.name}" has timed out progressing.'
            entry = with_condition(
                server, found, "Progressing", "False", reason="ProgressDeadlineExceeded", message=message
            )
            return entry, None
        if before.get("reason") == "NewReplicaSetAvailable" and before.get("status") == "True":
            found = [item for item in found if item["type"] != "Progressing"]
        entry = with_condition(
            server, found, "Progressing", "True", reason="ReplicaSetUpdated", message=message
        )
        return entry, left


def _replicas(item: Stored) -> int:
    return int(item.value["spec"].get("replicas", 1))


def _is_over(pod: Stored) -> bool:
    return (pod.value.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _share(value: int | str, whole: int, rounding: Any) -> int:
    if isinstance(value, str) and value.endswith("%"):
        return int(rounding(whole * int(value[:-1]) / 100))
    return int(value)
