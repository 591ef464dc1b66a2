"""The port to the local cluster: writes wishes and reads facts in its folder. Needs no running node."""

from __future__ import annotations

import fcntl
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inotify_simple import INotify, flags

from deployments.clusters.errors import ClusterUnreachable
from deployments.clusters.local import objects
from deployments.clusters.local.jobs import job_status
from deployments.clusters.local.logfiles import LogReader, find_log
from deployments.clusters.local.pods import Pod, pod_events
from deployments.clusters.local.rollout import deployment_status
from deployments.clusters.local.scheduling import requested
from deployments.clusters.local.store import Record, Store
from deployments.clusters.port import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    REVISION_LABEL,
    SPEC_HASH_ANNOTATION,
    LogLine,
    Manifest,
    NodeCapacity,
    ObjectRef,
    Observation,
    ObservedEvent,
    ObservedObject,
)
from deployments.clusters.validation import validate

NODE = "local"
STOP_LOOK_MILLISECONDS = 500
"""How often a watch looks whether it was told to stop."""


@contextmanager
def _translated(root: Path) -> Iterator[None]:
    """No error of the file system passes the border of the port."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ClusterUnreachable(f"the folder {root} cannot be used: {error}") from error


class LocalCluster:
    """Containers as processes of this machine. See `deployments.clusters.local`."""

    def __init__(self, *, name: str, root: Path) -> None:
        self.name = name
        self.store = Store(root)
        self._logs = LogReader()

    def observe(self, resource: str | None = None, *, namespaces: Collection[str] = ()) -> Observation:
        """One pass over the folder; only what changed since the last call is read again."""
        # Objects before pods: an object is removed after its pods, so none can seem to have vanished before.
        with _translated(self.store.root):
            records = self.store.objects.read_all()
            pods = self.store.read_pods()
        owned: dict[str, list[Pod]] = defaultdict(list)
        for pod in pods:
            owned[pod.owner_uid].append(pod)
        return Observation(
            objects=tuple(
                _observed(record, owned[record["metadata"]["uid"]])
                for record in records
                if _is_managed(record)
                and resource in (None, objects.resource_of(record))
                and _is_within(namespaces, record["metadata"].get("namespace", ""))
            ),
            pods=tuple(
                pod.observed(node=NODE)
                for pod in sorted(pods, key=lambda pod: (pod.created_at, pod.name))
                if pod.is_managed
                and resource in (None, pod.resource)
                and _is_within(namespaces, pod.namespace)
            ),
        )

    def apply(self, manifest: Manifest) -> None:
        validate(manifest)
        with _translated(self.store.root):
            objects.apply(self.store, manifest)

    def delete(self, ref: ObjectRef) -> None:
        with _translated(self.store.root):
            objects.delete(self.store, ref)

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
        """Also after the pod and its objects are gone: see `logfiles` for how many are kept."""
        with _translated(self.store.root):
            path = find_log(self.store.logs(resource), pod=pod)
            if path is None or container:  # pods have one container here
                return []
            running = any(found.running and self.store.log(found) == path for found in self.store.read_pods())
            read = self._logs.read_tail if tail else self._logs.read
            return read(path, after=after, limit=limit, complete=not running)

    def events(self, resource: str, *, namespaces: Collection[str] = ()) -> list[ObservedEvent]:
        """What the node did with the pods that are still there."""
        with _translated(self.store.root):
            pods = [pod for pod in self.store.read_pods() if pod.resource == resource]
        return sorted((event for pod in pods for event in pod_events(pod)), key=lambda event: event.at)

    def watch(self, stop: threading.Event) -> Iterator[str]:
        """Sees what happens from the moment of the call on."""
        with _translated(self.store.root):
            self.store.prepare()
            inotify = INotify()
            inotify.add_watch(self.store.changes, flags.CLOSE_WRITE)
        return _follow(inotify, stop)

    def nodes(self) -> list[NodeCapacity]:
        """The machine, as the node that ran last described it; ready while a node process runs."""
        with _translated(self.store.root):
            record = self.store.read_node()
            if record is None:
                return []
            return [
                NodeCapacity(
                    name=record["name"],
                    labels=record["labels"],
                    allocatable=record["allocatable"],
                    requested=requested(self.store.read_pods()),
                    ready=is_node_running(self.store),
                )
            ]


def is_node_running(store: Store) -> bool:
    """Whether a process is the node now."""
    try:
        with open(store.node_lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _follow(inotify: INotify, stop: threading.Event) -> Iterator[str]:
    with inotify:
        while not stop.is_set():
            events = inotify.read(STOP_LOOK_MILLISECONDS)
            yield from dict.fromkeys(event.name for event in events if event.name)


def _is_within(namespaces: Collection[str], namespace: str) -> bool:
    return not namespaces or namespace in namespaces


def _is_managed(record: Record) -> bool:
    return (record["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGED_BY


def _observed(record: Record, pods: list[Pod]) -> ObservedObject:
    metadata = record["metadata"]
    revision = (metadata.get("labels") or {}).get(REVISION_LABEL, "")
    deleting = metadata.get("deletionTimestamp")
    return ObservedObject(
        ref=ObjectRef.of(record),
        uid=metadata["uid"],
        resource=objects.resource_of(record),
        revision=int(revision) if revision.isdecimal() else None,
        spec_hash=(metadata.get("annotations") or {}).get(SPEC_HASH_ANNOTATION, ""),
        deleting_since=datetime.fromisoformat(deleting) if deleting else None,
        finalizers=("foregroundDeletion",) if deleting else (),
        status=_status(record, pods),
    )


def _status(record: Record, pods: list[Pod]) -> Mapping[str, Any]:
    if record["kind"] == "Deployment":
        return deployment_status(record, pods)
    if record["kind"] == "Job":
        return job_status(record, pods, now=datetime.now(UTC))
    return {}
