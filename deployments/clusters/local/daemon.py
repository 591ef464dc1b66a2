"""The node: the one process that turns objects into pods, and pods into running containers.

One pass (`_pass`) reads the wishes, lets the controllers add and remove pods, binds pods to the node, brings
each pod a step further, and stores what changed. A pass follows every change of an object, every end of a
container, every probe that changes its mind and every deadline; in between the process sleeps.

Killed, it leaves its containers running and finds them again when it is started. Asked to end (SIGTERM), it
takes the node down: every container is stopped within its grace period and its pod is recorded as ended.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import IO, Any

from inotify_simple import INotify, flags

from deployments.clusters.errors import ClusterConflict
from deployments.clusters.local import objects
from deployments.clusters.local.addresses import choose_address
from deployments.clusters.local.containers import Places
from deployments.clusters.local.jobs import DEFAULT_BACKOFF_LIMIT, plan_job
from deployments.clusters.local.kubelet import Kubelet
from deployments.clusters.local.logfiles import prune_logs
from deployments.clusters.local.pods import TEMPLATE_HASH_LABEL, Pod
from deployments.clusters.local.rollout import Changes, plan_rollout, template_hash
from deployments.clusters.local.scheduling import Node, claims_of, obstacle, requested
from deployments.clusters.local.store import Record, Store
from deployments.clusters.port import ObjectRef

logger = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 40.0
"""How long the node takes to go down at most: longer grace periods are cut, as the kubelet's
shutdownGracePeriod cuts them. A manager that stops the node should wait a little longer."""
STEP_ASIDE = timedelta(seconds=10)
"""When to try again what raised an error that nobody expected."""
LOCK_SECONDS = 2.0
"""How long to wait for the lock: readers that ask whether a node runs hold it for an instant."""


class Daemon:
    """The node of one local cluster."""

    def __init__(
        self, *, store: Store, places: Places, node: Node, shutdown_seconds: float = SHUTDOWN_SECONDS
    ) -> None:
        self.shutdown_seconds = shutdown_seconds
        self.store = store
        self.node = node
        self.pods: dict[str, Pod] = {}
        self.stopping = False
        self._awake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.kubelet = Kubelet(store=store, places=places, read_data=self._read_data, wake=self._awake.set)

    async def run(self) -> None:
        """Works until SIGTERM or SIGINT. Raises ClusterConflict when another node process has this folder."""
        self.store.prepare()
        lock = await _take_lock(self.store)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        inotify = INotify()
        # A rename into the folder is a write, an unlink a removal; temporary files are neither.
        inotify.add_watch(self.store.objects.folder, flags.MOVED_TO | flags.DELETE)
        loop.add_reader(inotify, self._objects_changed, inotify)
        try:
            self._recover()
            await self._work()
        finally:
            self.kubelet.release()
            loop.remove_reader(inotify)
            inotify.close()
            lock.close()

    def _objects_changed(self, inotify: INotify) -> None:
        inotify.read(0)  # which ones does not matter: a pass looks at all
        self._awake.set()

    def _stop(self) -> None:
        if not self.stopping:
            logger.info("stopping: %d containers to end", len(self.kubelet.runs))
            asyncio.get_running_loop().call_later(self.shutdown_seconds, self.kubelet.kill_all)
        self.stopping = True
        self._awake.set()

    def _recover(self) -> None:
        self.store.write_node(
            {"name": self.node.name, "labels": self.node.labels, "allocatable": self.node.allocatable}
        )
        _remove_leftovers(self.store)
        now = datetime.now(UTC)
        for pod in self.store.read_pods():
            self.pods[pod.uid] = pod
            self._put(self.kubelet.recover(pod, now=now))
        logger.info("node %s is up with %d running containers", self.node.name, len(self.kubelet.runs))

    async def _work(self) -> None:
        while True:
            self._awake.clear()
            changed = self._pass(datetime.now(UTC))
            if self.stopping and not self.kubelet.runs and not changed:
                return
            if changed:  # what one step did may allow another's next
                await asyncio.sleep(0)
                continue
            await self._awake.wait()

    # --- One pass ------------------------------------------------------------------------------------------

    def _pass(self, now: datetime) -> bool:
        """Looks at everything once and does what is to be done. Returns whether anything changed."""
        before = dict(self.pods)
        records = self.store.objects.read_all()
        # 1. Controllers: which pods there should be.
        looks = [] if self.stopping else [self._try_control(record, now=now) for record in records]
        self._drop_orphans(records, now=now)
        # 2. The scheduler: which of them fit.
        if not self.stopping:
            self._schedule(records, now=now)
        # 3. The kubelet: each pod a step further.
        looks += [self._try_advance(pod, now=now) for pod in list(self.pods.values())]
        # 4. What is over is removed.
        self._remove_ended()
        removed = self._remove_objects(records)
        # 5. When to look again if nothing happens before.
        looks += [self.kubelet.next_look(pod, now=now) for pod in self.pods.values()]
        self._look_again(min((look for look in looks if look), default=None), now=now)
        return removed or before != self.pods

    def _try_control(self, record: Record, *, now: datetime) -> datetime | None:
        """One object that cannot be handled steps aside for a while and does not stop the others."""
        try:
            return self._control(record, now=now)
        except Exception:
            logger.exception("%s cannot be handled", ObjectRef.of(record))
            return now + STEP_ASIDE

    def _try_advance(self, pod: Pod, *, now: datetime) -> datetime | None:
        """The same for a pod."""
        try:
            self._put(self.kubelet.advance(pod, now=now, stopping=self.stopping))
        except Exception:
            logger.exception("pod %s cannot be handled", pod.name)
            return now + STEP_ASIDE
        return None

    def _control(self, record: Record, *, now: datetime) -> datetime | None:
        plans = {"Deployment": plan_rollout, "Job": plan_job}
        plan = plans.get(record["kind"])
        if plan is None:
            return None
        owned = [pod for pod in self.pods.values() if pod.owner_uid == record["metadata"]["uid"]]
        changes: Changes = plan(record, owned, now=now)
        for uid in changes.delete:
            self._put(replace(self.pods[uid].with_readiness(False, at=now), deleting_since=now))
        for _ in range(changes.create):
            self._put(_make_pod(record, now=now))
        return changes.look_again_at

    def _drop_orphans(self, records: Sequence[Record], *, now: datetime) -> None:
        owners = {record["metadata"]["uid"] for record in records}
        for pod in list(self.pods.values()):
            if pod.owner_uid not in owners and not pod.deleting_since:
                self._put(replace(pod.with_readiness(False, at=now), deleting_since=now))

    def _schedule(self, records: Sequence[Record], *, now: datetime) -> None:
        """Binds waiting pods in the order they were made; one that does not fit does not hold up others."""
        claims: defaultdict[str, set[str]] = defaultdict(set)
        for record in records:
            metadata = record["metadata"]
            if record["kind"] == "PersistentVolumeClaim" and not metadata.get("deletionTimestamp"):
                claims[metadata["namespace"]].add(metadata["name"])
        waiting = [
            pod
            for pod in self.pods.values()
            if pod.scheduled_at is None and not pod.is_finished and not pod.deleting_since
        ]
        for pod in sorted(waiting, key=lambda pod: (pod.created_at, pod.name)):
            claimed = requested(list(self.pods.values()))
            if reason := obstacle(pod, node=self.node, claimed=claimed, claims=claims[pod.namespace]):
                self._put(replace(pod, reason="Unschedulable", message=reason))
                continue
            taken = {other.ip for other in self.pods.values()}
            ip = choose_address(pod.uid, taken=taken, port=pod.port)
            self._put(replace(pod, scheduled_at=now, ip=ip, reason="ContainerCreating", message=""))

    def _remove_ended(self) -> None:
        for pod in list(self.pods.values()):
            if pod.deleting_since and pod.uid not in self.kubelet.runs and not pod.running:
                self.store.remove_pod(pod)
                del self.pods[pod.uid]
                self.kubelet.forget(pod)
                alive = {self.store.log(other) for other in self.pods.values()}
                prune_logs(self.store.logs(pod.resource), alive=alive)
                self.store.ring(pod.resource)

    def _remove_objects(self, records: Sequence[Record]) -> bool:
        """Removes objects that are to go, own nothing any more and are used by nothing."""
        owners = {pod.owner_uid for pod in self.pods.values()}
        used = {(pod.namespace, claim) for pod in self.pods.values() for claim in claims_of(pod.spec)}
        namespaces = {record["metadata"].get("namespace") for record in records}
        namespaces |= {pod.namespace for pod in self.pods.values()}
        removed = False
        for record in records:
            metadata = record["metadata"]
            if not metadata.get("deletionTimestamp") or metadata["uid"] in owners:
                continue
            if record["kind"] == "Namespace" and metadata["name"] in namespaces:
                continue
            if record["kind"] == "PersistentVolumeClaim":
                if (metadata["namespace"], metadata["name"]) in used:
                    continue
                # Before the object: a folder without one would be nobody's.
                shutil.rmtree(self.store.claim(metadata["uid"]), ignore_errors=True)
            removed |= objects.remove(self.store, ObjectRef.of(record), uid=metadata["uid"])
            self.store.ring(objects.resource_of(record))
        if removed:
            left = {objects.resource_of(record) for record in self.store.objects.read_all()}
            self.store.forget_bells(frozenset(left | {pod.resource for pod in self.pods.values()}))
        return removed

    # --- Small things --------------------------------------------------------------------------------------

    def _put(self, pod: Pod) -> None:
        """Remembers and stores the pod if it changed."""
        if self.pods.get(pod.uid) != pod:
            self.pods[pod.uid] = pod
            self.store.write_pod(pod)
            self.store.ring(pod.resource)

    def _look_again(self, at: datetime | None, *, now: datetime) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if at:
            delay = max(0.0, (at - now).total_seconds())
            self._timer = asyncio.get_running_loop().call_later(delay, self._awake.set)

    def _read_data(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        return self.store.read_object(ObjectRef("v1", kind, namespace, name))


def _make_pod(owner: Record, *, now: datetime) -> Pod:
    metadata, template = owner["metadata"], owner["spec"]["template"]
    of_template = template.get("metadata") or {}
    labels = dict(of_template.get("labels") or {})
    suffix = "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))
    restart_limit = None
    if owner["kind"] == "Deployment":
        labels[TEMPLATE_HASH_LABEL] = template_hash(owner)
        name = f"{metadata['name']}-{labels[TEMPLATE_HASH_LABEL]}-{suffix}"
    else:
        labels |= {"batch.kubernetes.io/job-name": metadata["name"], "job-name": metadata["name"]}
        name = f"{metadata['name']}-{suffix}"
        restart_limit = owner["spec"].get("backoffLimit", DEFAULT_BACKOFF_LIMIT)
    return Pod(
        uid=str(uuid.uuid4()),
        name=name,
        namespace=metadata["namespace"],
        labels=labels,
        annotations=dict(of_template.get("annotations") or {}),
        owner_kind=owner["kind"],
        owner_name=metadata["name"],
        owner_uid=metadata["uid"],
        spec=template["spec"],
        created_at=now,
        restart_limit=restart_limit,
    )


def _remove_leftovers(store: Store) -> None:
    """Removes what a killed process left half-done: temporary files, pods whose record was lost, folders of
    pods that are gone.
    """
    for path in store.pods.folder.glob(".*"):
        path.unlink(missing_ok=True)
    with store.changing_objects():  # no other process is between writing and renaming
        for path in store.objects.folder.glob(".*"):
            path.unlink(missing_ok=True)
    known = {pod.uid for pod in store.read_pods()}
    for path in store.pods.folder.glob("*.json"):
        if path.stem not in known:
            path.unlink()
    for kind in ("attempts", "volumes"):
        for folder in (store.root / kind).iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)


async def _take_lock(store: Store) -> IO[str]:
    """Makes this process the node: holds the lock until it ends, however it ends."""
    file = open(store.node_lock, "a+")  # noqa: SIM115 - held for the life of the node
    deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if asyncio.get_running_loop().time() > deadline:
                file.seek(0)
                holder = file.read()
                file.close()
                raise ClusterConflict(f"{store.root} already has a node process: {holder}") from None
            await asyncio.sleep(0.02)
        else:
            file.seek(0)
            file.truncate()
            file.write(json.dumps({"pid": os.getpid()}))
            file.flush()
            return file
