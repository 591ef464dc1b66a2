"""A stand-in for a cluster that lives in memory, where the test decides what pods do and when things fail.

It keeps the promises of the port that the reconciler relies on: applying is idempotent, a deletion is a
request, pods carry facts with times of the cluster's own clock, and pods of a Deployment or Job come and go
by themselves. The real clusters keep the same promises: see `tests/deployments/clusters`.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection

from deployments.clusters.errors import ClusterConflict, ClusterError
from deployments.clusters.port import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    RESOURCE_LABEL,
    REVISION_LABEL,
    SPEC_HASH_ANNOTATION,
    LogLine,
    Manifest,
    NodeCapacity,
    ObjectRef,
    Observation,
    ObservedEvent,
    ObservedObject,
    ObservedPod,
)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC).replace(microsecond=0)

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> datetime:
        self._now += timedelta(seconds=seconds)
        return self._now


@dataclass
class _Object:
    manifest: Manifest
    uid: str
    deleting_since: datetime | None = None
    finalizers: tuple[str, ...] = ()
    failed: int = 0
    verdict: str = ""  # of a Job: Complete or Failed

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef.of(self.manifest)

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.manifest["metadata"]["labels"])


@dataclass
class _Pod:
    owner: str  # uid of its object
    facts: ObservedPod
    log: list[str] = field(default_factory=list)


class MemoryCluster:
    """Implements `deployments.clusters.port.Cluster`."""

    def __init__(self, *, name: str = "memory", clock: Clock | None = None) -> None:
        self.name = name
        self.clock = clock or Clock()
        self.lingers = True
        """Whether deleted objects and pods stay until `let_go`, as within a grace period."""
        self.reads = 0
        self.writes: list[str] = []
        self.after_write: Callable[[], None] = lambda: None
        self.before_call: Callable[[str], None] = lambda call: None
        """Called with the name of each call before it does anything; may raise."""
        self.told: dict[str, list[ObservedEvent]] = {}
        """Resource -> what `events` answers."""
        self._objects: dict[ObjectRef, _Object] = {}
        self._pods: dict[str, _Pod] = {}
        self._numbers = itertools.count(1)
        self._changes: queue.Queue[str] = queue.Queue()

    # The port

    def observe(self, resource: str | None = None, *, namespaces: Collection[str] = ()) -> Observation:
        self._called("observe")
        self.reads += 1
        seen = Observation(
            objects=tuple(
                _observed(item)
                for item in self._objects.values()
                if _is_managed(item) and (not namespaces or item.ref.namespace in namespaces)
            ),
            pods=tuple(
                pod.facts
                for pod in self._pods.values()
                if not namespaces or pod.facts.namespace in namespaces
            ),
        )
        return seen if resource is None else seen.of(resource)

    def apply(self, manifest: Manifest) -> None:
        self._called("apply")
        ref = ObjectRef.of(manifest)
        self.writes.append(f"apply {ref}")
        found = self._objects.get(ref)
        if found is not None and found.deleting_since is not None:
            raise ClusterConflict(f"{ref} is being deleted")
        if found is None:
            made = self._objects[ref] = _Object(manifest, uid=f"object-{next(self._numbers)}")
            if ref.kind == "Deployment":
                self._adopt(made)
        else:
            found.manifest = manifest
        self._control()
        self._changed(manifest["metadata"]["labels"].get(RESOURCE_LABEL, ""))
        self.after_write()

    def delete(self, ref: ObjectRef) -> None:
        self._called("delete")
        self.writes.append(f"delete {ref}")
        for uid, pod in list(self._pods.items()):
            if (ref.kind, ref.namespace, ref.name) == ("Pod", pod.facts.namespace, pod.facts.name):
                self._pods[uid].facts = replace(pod.facts, deleting_since=self.clock.now())
                self._changed(pod.facts.resource)
        found = self._objects.get(ref)
        if found is not None and found.deleting_since is None:
            found.deleting_since = self.clock.now()
            self._control()
            if not self.lingers:
                self.let_go()
            self._changed(found.labels.get(RESOURCE_LABEL, ""))
        self.after_write()

    def logs(
        self,
        resource: str,
        *,
        namespaces: Collection[str] = (),
        pod: str | None = None,
        container: str = "",
        after: int = 0,
        limit: int = 1000,
        tail: bool = False,
    ) -> list[LogLine]:
        self._called("logs")
        self.reads += 1
        mine = [item for item in self._pods.values() if item.facts.resource == resource]
        chosen = self._pods.get(pod) if pod else (mine[-1] if mine else None)
        log = chosen.log if chosen else []
        lines = [LogLine(number=number, text=text) for number, text in enumerate(log, start=1)][after:]
        return lines[max(0, len(lines) - limit) :] if tail else lines[:limit]

    def events(self, resource: str, *, namespaces: Collection[str] = ()) -> list[ObservedEvent]:
        self._called("events")
        self.reads += 1
        return self.told.get(resource, [])

    def watch(self, stop: threading.Event) -> Iterator[str]:
        self.before_call("watch")
        while not stop.is_set():
            try:
                yield self._changes.get(timeout=0.05)
            except queue.Empty:
                continue

    def nodes(self) -> list[NodeCapacity]:
        return []

    # What happens on the cluster

    def pods(self, resource: str, *, revision: int | None = None) -> list[ObservedPod]:
        """The living pods of a resource that are not asked to stop, oldest first."""
        return [
            pod.facts
            for pod in self._pods.values()
            if pod.facts.resource == resource
            and revision in (None, pod.facts.revision)
            and pod.facts.deleting_since is None
            and pod.facts.finished_at is None
        ]

    def objects(self, resource: str) -> list[str]:
        """Kind and name of what there is of a resource; of "" what belongs to none."""
        return sorted(
            f"{item.ref.kind} {item.ref.name}"
            for item in self._objects.values()
            if item.labels.get(RESOURCE_LABEL, "") == resource
        )

    def manifest(self, ref: ObjectRef) -> Manifest:
        """An object as it was applied last."""
        return self._objects[ref].manifest

    def start(self, resource: str, *, revision: int | None = None) -> None:
        """Schedules the pods and starts their containers."""
        for pod in self.pods(resource, revision=revision):
            self._set(
                pod,
                scheduled_at=pod.scheduled_at or self.clock.now(),
                started_at=pod.started_at or self.clock.now(),
                image_pulled_at=pod.image_pulled_at or self.clock.now(),
                node="node-1",
                address=f"10.0.0.{pod.uid.rpartition('-')[2]}:8000",
                phase="Running",
                reason="",
                message="",
            )

    def make_ready(self, resource: str, *, revision: int | None = None, only: int | None = None) -> None:
        """Makes the pods answer, starting those that have not started; `only` so many of them."""
        self.start(resource, revision=revision)
        for pod in self.pods(resource, revision=revision)[:only]:
            self._set(pod, reason="", message="", ready_at=pod.ready_at or self.clock.now())
            self._turn(pod, ready=True)

    def make_unready(self, resource: str, *, reason: str = "") -> None:
        """Makes the pods say that they are not ready; NodeLost: as when their node is gone."""
        for pod in self.pods(resource):
            self._set(pod, reason=reason)
            self._turn(pod, ready=False)

    def leave_waiting(self, resource: str, *, reason: str, message: str) -> None:
        """Says of the pods why they do not start."""
        for pod in self.pods(resource):
            self._set(pod, reason=reason, message=message)

    def crash(
        self,
        resource: str,
        *,
        exit_code: int,
        revision: int | None = None,
        times: int = 1,
        word: str = "Error",
    ) -> None:
        """Ends the containers, which are started again in the same pods."""
        self.start(resource, revision=revision)
        for pod in self.pods(resource, revision=revision):
            self._set(
                pod,
                restarts=pod.restarts + times,
                exit_code=exit_code,
                last_end_at=self.clock.now(),
                last_end_reason=word,
                reason="CrashLoopBackOff",
            )
            self._turn(pod, ready=False)

    def finish(self, resource: str, *, exit_code: int = 0, reason: str = "") -> None:
        """Ends the running pod of a Job, which does what its policy says."""
        (pod,) = self.pods(resource)
        word = reason or ("Completed" if exit_code == 0 else "Error")
        self._set(
            pod,
            phase="Succeeded" if exit_code == 0 else "Failed",
            finished_at=self.clock.now(),
            ready=False,
            exit_code=exit_code,
            reason=word,
        )
        self._judge(self._pods[pod.uid].owner, exit_code)
        self._control()

    def print(self, resource: str, *lines: str) -> None:
        """Adds lines to the log of the running pod."""
        (pod,) = self.pods(resource)
        self._pods[pod.uid].log.extend(lines)

    def lose(self, resource: str, *, revision: int | None = None) -> None:
        """Takes pods away without a report, as when a node burns down. Their owners make new ones."""
        for pod in self.pods(resource, revision=revision):
            del self._pods[pod.uid]
        self._control()
        self._changed(resource)

    def remove_by_hand(self, resource: str, *, kind: str) -> None:
        """Somebody with a command line."""
        for item in list(self._objects.values()):
            if item.ref.kind == kind and item.labels.get(RESOURCE_LABEL, "") == resource:
                self._drop(item)

    def leave_pods(self, resource: str, *, kind: str) -> None:
        """Somebody with `kubectl delete --cascade=orphan`."""
        for item in list(self._objects.values()):
            if item.ref.kind == kind and item.labels.get(RESOURCE_LABEL, "") == resource:
                del self._objects[item.ref]

    def let_go(self) -> None:
        """Ends whatever was asked to stop."""
        for uid, pod in list(self._pods.items()):
            if pod.facts.deleting_since is not None:
                del self._pods[uid]
                self._changed(pod.facts.resource)
        for item in list(self._objects.values()):
            if item.deleting_since is not None and not item.finalizers:
                self._drop(item)

    def hold(self, resource: str, *, kind: str, finalizer: str) -> None:
        """Somebody else's program wants to do something before the object goes; "" = it has done so."""
        for item in self._objects.values():
            if item.ref.kind == kind and item.labels.get(RESOURCE_LABEL) == resource:
                item.finalizers = (finalizer,) if finalizer else ()

    # Inside

    def _called(self, call: str) -> None:
        # The network stays out of transactions.
        assert not connection.in_atomic_block, f"{call} inside a transaction"
        self.before_call(call)

    def _changed(self, resource: str) -> None:
        self._changes.put(resource)

    def _set(self, pod: ObservedPod, **facts: Any) -> None:
        known = self._pods[pod.uid]
        known.facts = replace(known.facts, **facts)
        self._changed(pod.resource)

    def _turn(self, pod: ObservedPod, *, ready: bool) -> None:
        known = self._pods[pod.uid].facts
        if known.ready != ready:
            self._set(pod, ready=ready, ready_changed_at=self.clock.now())

    def _drop(self, item: _Object) -> None:
        del self._objects[item.ref]
        for uid, pod in list(self._pods.items()):
            if pod.owner == item.uid:
                del self._pods[uid]

    def _judge(self, owner: str, exit_code: int) -> None:
        (job,) = (item for item in self._objects.values() if item.uid == owner)
        if exit_code == 0:
            job.verdict = "Complete"
            return
        for rule in job.manifest["spec"]["podFailurePolicy"]["rules"]:
            if exit_code in rule.get("onExitCodes", {}).get("values", ()):
                if rule["action"] == "FailJob":
                    job.verdict = "Failed"
                return
        job.failed += 1
        if job.failed > job.manifest["spec"]["backoffLimit"]:
            job.verdict = "Failed"

    def _control(self) -> None:
        """What Kubernetes' controllers do: pods for Deployments and Jobs, and their end."""
        for item in self._objects.values():
            mine = [pod for pod in self._pods.values() if pod.owner == item.uid]
            living = [pod for pod in mine if not pod.facts.deleting_since and not pod.facts.finished_at]
            if item.deleting_since is not None or item.verdict:
                wanted = 0
            elif item.ref.kind == "Deployment":
                wanted = item.manifest["spec"]["replicas"]
            else:
                wanted = 1 if item.ref.kind == "Job" else 0
            for pod in living[wanted:]:
                pod.facts = replace(pod.facts, deleting_since=self.clock.now())
            if item.deleting_since is not None:
                for pod in mine:
                    pod.facts = replace(
                        pod.facts, deleting_since=pod.facts.deleting_since or self.clock.now()
                    )
            for _ in range(wanted - len(living)):
                self._add_pod(item)

    def _adopt(self, owner: _Object) -> None:
        """A Deployment takes back the pods that one of its name has left behind; a Job never does."""
        for pod in self._pods.values():
            mine = (owner.labels[RESOURCE_LABEL], owner.labels.get(REVISION_LABEL))
            theirs = (pod.facts.resource, None if pod.facts.revision is None else str(pod.facts.revision))
            if mine == theirs and pod.owner not in {item.uid for item in self._objects.values()}:
                pod.owner = owner.uid
                pod.facts = replace(pod.facts, owner=owner.uid)

    def _add_pod(self, owner: _Object) -> None:
        number = next(self._numbers)
        revision = owner.labels.get(REVISION_LABEL)
        facts = ObservedPod(
            uid=f"{self.name}-pod-{number}",
            name=f"{owner.ref.name}-{number}",
            namespace=owner.ref.namespace,
            resource=owner.labels[RESOURCE_LABEL],
            revision=int(revision) if revision else None,
            phase="Pending",
            created_at=self.clock.now(),
            owner=owner.uid,
            ends_with=(ObjectRef("v1", "Pod", owner.ref.namespace, f"{owner.ref.name}-{number}"),),
        )
        self._pods[facts.uid] = _Pod(owner.uid, facts)
        self._changed(facts.resource)


def failing(*, call: str, error: ClusterError, times: int = 10**9) -> Callable[[str], None]:
    """For `before_call`: the named call raises, so many times."""
    left = itertools.count(times, -1)

    def before_call(name: str) -> None:
        if name == call and next(left) > 0:
            raise error

    return before_call


def _is_managed(item: _Object) -> bool:
    return item.labels.get(MANAGED_BY_LABEL) == MANAGED_BY


def _observed(item: _Object) -> ObservedObject:
    revision = item.labels.get(REVISION_LABEL)
    status: dict[str, Any] = {}
    if item.ref.kind == "Job":
        status = {"succeeded": int(item.verdict == "Complete"), "failed": item.failed}
        if item.verdict:
            status["conditions"] = [{"type": item.verdict, "status": "True"}]
    return ObservedObject(
        ref=item.ref,
        uid=item.uid,
        resource=item.labels.get(RESOURCE_LABEL, ""),
        revision=int(revision) if revision else None,
        spec_hash=item.manifest["metadata"].get("annotations", {}).get(SPEC_HASH_ANNOTATION, ""),
        deleting_since=item.deleting_since,
        finalizers=item.finalizers,
        status=status,
    )
