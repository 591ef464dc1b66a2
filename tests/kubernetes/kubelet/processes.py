"""Pods whose containers really run, as processes of this machine: the local cluster's kubelet under the API.

The first container of a pod runs, and before it the init containers, one after another. Claims become the
folder of the hostPath volume that they are bound to, else the storage folder. Mount paths are rewritten as on
the local cluster, see `deployments.clusters.local.containers`.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deployments.clusters.local.addresses import choose_address
from deployments.clusters.local.containers import Places
from deployments.clusters.local.kubelet import Kubelet
from deployments.clusters.local.pods import Phase
from deployments.clusters.local.pods import Pod as LocalPod
from deployments.clusters.local.store import Store
from tests.kubernetes.kubelet.client import ApiError
from tests.kubernetes.kubelet.fleet import ERRORS, Fleet, Pod
from tests.kubernetes.kubelet.logserver import LogServer
from tests.kubernetes.kubelet.statuses import Container, pod_status

logger = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[3]
IDLE_SECONDS = 0.5
_WAITING = ("ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError", "CrashLoopBackOff")


@dataclass
class Part:
    """One container: the local cluster's pod that runs it, and what was before."""

    name: str
    image: str
    local: LocalPod
    last: Container | None = None
    offsets: dict[int, int] = field(default_factory=dict)
    """Where in the log each run begins, in bytes."""

    def container(self) -> Container:
        """How it is, as a kubelet tells it."""
        local = self.local
        told = Container(name=self.name, image=self.image, restarts=local.restarts, last=self.last)
        if local.running and local.attempt_started_at:
            return replace(
                told, started_at=local.attempt_started_at, ready=local.ready, started=local.startup_done
            )
        if local.reason in _WAITING and not local.is_finished:
            return replace(told, waiting=local.reason, message=local.message)
        if local.attempt_finished_at and not local.running:
            return replace(self.ended(), restarts=local.restarts, last=self.last)
        return replace(told, waiting="ContainerCreating")

    def ended(self) -> Container:
        """The run that ended last."""
        local = self.local
        reason = "" if local.reason in _WAITING else local.reason
        plain = reason in ("", "Error", "Completed")
        return Container(
            name=self.name,
            image=self.image,
            started_at=local.attempt_started_at,
            finished_at=local.attempt_finished_at,
            exit_code=local.exit_code,
            reason="" if plain else reason,
            message="" if local.message.startswith("exit code") else local.message,
        )


@dataclass
class Sandbox:
    """One pod: its containers in the order in which they run."""

    pod: Pod
    ip: str
    began: datetime
    parts: list[Part]
    inits: int
    """How many of the parts are init containers."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    reported: str = ""

    @property
    def main(self) -> Part:
        return self.parts[-1]

    @property
    def current(self) -> Part:
        """The one that runs or is next."""
        for part in self.parts[: self.inits]:
            if part.local.phase != Phase.SUCCEEDED:
                return part
        return self.main

    @property
    def deleting(self) -> bool:
        return bool(self.pod["metadata"].get("deletionTimestamp"))

    @property
    def over(self) -> bool:
        """Nothing of it runs."""
        return not any(part.local.running for part in self.parts)

    def phase(self) -> str:
        for part in self.parts[: self.inits]:
            if part.local.phase == Phase.FAILED:
                return "Failed"
        if self.current is not self.main:
            return "Pending"
        if self.deleting and self.over and self.main.local.attempt:
            return "Succeeded" if self.main.local.exit_code == 0 else "Failed"
        return self.main.local.phase


class Processes:
    """The runner that runs containers. `folder` keeps their files and logs."""

    def __init__(self, folder: Path, *, storage: Path, images: Path | None = None) -> None:
        self.store = Store(folder)
        self.store.prepare()
        self._places = Places(storage=storage, checkout=CHECKOUT, images=images)
        self.sandboxes: dict[str, Sandbox] = {}
        self._data: dict[tuple[str, str, str], dict[str, Any] | None] = {}
        self._logs: dict[tuple[str, str], Part] = {}
        self._admitting: set[str] = set()
        self._fleet: Fleet | None = None
        self._kubelet: Kubelet | None = None
        self._log_server: LogServer | None = None
        self._awake = asyncio.Event()

    @property
    def fleet(self) -> Fleet:
        assert self._fleet is not None
        return self._fleet

    @property
    def kubelet(self) -> Kubelet:
        assert self._kubelet is not None
        return self._kubelet

    # --- The runner's side ---------------------------------------------------------------------------------

    async def begin(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._kubelet = Kubelet(
            store=self.store,
            places=self._places,
            read_data=lambda *key: self._data.get(key),
            wake=self._awake.set,
        )
        self._log_server = LogServer(self.store.root, self._named_log)
        await self._log_server.start()
        fleet.port = self._log_server.port
        fleet.spawn(self._work())

    async def end(self) -> None:
        """Kills what still runs, and waits until it is gone."""
        self.kubelet.kill_all()
        while self.kubelet.runs:
            for sandbox in self.sandboxes.values():
                self._advance(sandbox, stopping=True)
            await asyncio.sleep(0.02)
        if self._log_server is not None:
            await self._log_server.stop()

    def sync(self, pod: Pod) -> None:
        uid = pod["metadata"]["uid"]
        sandbox = self.sandboxes.get(uid)
        if sandbox is not None:
            sandbox.pod = pod
            self._awake.set()
            return
        finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if pod["metadata"].get("deletionTimestamp"):
            self.fleet.spawn(self.fleet.remove_pod(pod))
        elif not finished and uid not in self._admitting:
            self._admitting.add(uid)
            self.fleet.spawn(self._admit(pod))

    def gone(self, pod: Pod) -> None:
        """Removed by force: what runs is killed."""
        sandbox = self.sandboxes.get(pod["metadata"]["uid"])
        if sandbox is not None:
            sandbox.pod = {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "now"}}
            for part in sandbox.parts:
                if run := self.kubelet.runs.get(part.local.uid):
                    run.attempt.kill()
            self._awake.set()

    def node_failed(self, name: str) -> None:
        for sandbox in list(self.sandboxes.values()):
            if sandbox.pod["spec"]["nodeName"] == name:
                for part in sandbox.parts:
                    if run := self.kubelet.runs.get(part.local.uid):
                        run.attempt.kill()

    def node_recovered(self, name: str) -> None:
        """A machine that started again begins its pods anew."""
        for uid, sandbox in list(self.sandboxes.items()):
            if sandbox.pod["spec"]["nodeName"] == name:
                del self.sandboxes[uid]

    def read_log(self, uid: str, container: str, *, previous: bool) -> list[tuple[datetime, bytes]] | None:
        """The lines of a container's present run, or of the one before. For `StandIn.serve_logs`."""
        part = self._logs.get((uid, container))
        if part is None or not part.offsets:
            return None
        runs = sorted(part.offsets)
        if previous and len(runs) < 2:
            return None
        run = runs[-2] if previous else runs[-1]
        begin = part.offsets[run]
        stop = part.offsets[runs[-1]] if previous else None
        try:
            text = self.store.log(part.local).read_bytes()[begin:stop]
        except FileNotFoundError:
            text = b""
        at = part.local.attempt_started_at or part.local.created_at
        return [(at, line) for line in text.splitlines(keepends=True)]

    def _named_log(
        self, namespace: str, pod: str, container: str, previous: bool
    ) -> list[tuple[datetime, bytes]] | None:
        found = (item["metadata"] for item in self.fleet.pods.values())
        uids = [item["uid"] for item in found if (item["namespace"], item["name"]) == (namespace, pod)]
        return self.read_log(uids[0], container, previous=previous) if uids else None

    # --- New pods ------------------------------------------------------------------------------------------

    async def _admit(self, pod: Pod) -> None:
        """Reads what the pod needs and makes room for it."""
        uid = pod["metadata"]["uid"]
        spec = await self._resolved(pod)
        await self._fetch_data(pod["metadata"]["namespace"], spec)
        self._admitting.discard(uid)
        pod = self.fleet.pods.get(uid, pod)
        taken = {sandbox.ip for sandbox in self.sandboxes.values()}
        ports = spec["containers"][0].get("ports") or []
        ip = choose_address(uid, taken=taken, port=ports[0]["containerPort"] if ports else None)
        parts = [self._part(pod, spec, item, ip=ip, init=True) for item in spec.get("initContainers") or ()]
        inits = len(parts)
        parts.append(self._part(pod, spec, spec["containers"][0], ip=ip, init=False))
        sandbox = Sandbox(pod=pod, ip=ip, began=datetime.now(UTC), parts=parts, inits=inits)
        self.sandboxes[uid] = sandbox
        for part in parts:
            self._logs[uid, part.name] = part
        self.fleet.spawn(self._report(sandbox))
        self._awake.set()

    def _part(
        self, pod: Pod, spec: Mapping[str, Any], container: Mapping[str, Any], *, ip: str, init: bool
    ) -> Part:
        metadata = pod["metadata"]
        policy = spec.get("restartPolicy", "Always")
        if init:
            policy = "Never" if policy == "Never" else "OnFailure"
        uid = f"{metadata['uid']}.{container['name']}" if init else metadata["uid"]
        if init:  # init containers and the main one share the pod's volumes
            shared = self.store.volumes(metadata["uid"])
            shared.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.store.volumes(uid).symlink_to(shared)
        owner = (metadata.get("ownerReferences") or [{}])[0]
        local = LocalPod(
            uid=uid,
            name=metadata["name"],
            namespace=metadata["namespace"],
            labels=metadata.get("labels") or {},
            annotations=metadata.get("annotations") or {},
            owner_kind=owner.get("kind", ""),
            owner_name=owner.get("name", ""),
            owner_uid=owner.get("uid", ""),
            spec={**spec, "containers": [dict(container)], "restartPolicy": policy},
            created_at=datetime.now(UTC),
            scheduled_at=datetime.now(UTC),
            ip=ip,
        )
        return Part(name=container["name"], image=container["image"], local=local)

    async def _resolved(self, pod: Pod) -> dict[str, Any]:
        """The pod's spec with claims replaced by the folders they are bound to."""
        spec: dict[str, Any] = dict(pod["spec"])
        volumes = []
        for volume in spec.get("volumes") or ():
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            folder = await self._folder(pod["metadata"]["namespace"], claim) if claim else ""
            volumes.append({"name": volume["name"], "hostPath": {"path": folder}} if folder else volume)
        return {**spec, "volumes": volumes}

    async def _folder(self, namespace: str, claim: str) -> str:
        with suppress(ApiError):
            path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}"
            found = await self.fleet.client.request("GET", path)
            name = found["spec"].get("volumeName")
            if name:
                volume = await self.fleet.client.request("GET", f"/api/v1/persistentvolumes/{name}")
                return str((volume["spec"].get("hostPath") or {}).get("path", ""))
        return ""

    async def _fetch_data(self, namespace: str, spec: Mapping[str, Any]) -> None:
        """Reads the Secrets and ConfigMaps that a pod names, because the local kubelet does not wait."""
        plurals = {"Secret": "secrets", "ConfigMap": "configmaps"}
        for kind, name in _references(spec):
            path = f"/api/v1/namespaces/{namespace}/{plurals[kind]}/{name}"
            try:
                self._data[kind, namespace, name] = await self.fleet.client.request("GET", path)
            except ERRORS:
                self._data[kind, namespace, name] = None

    # --- The loop ------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            self._awake.clear()
            looks = [self._advance(sandbox) for sandbox in list(self.sandboxes.values())]
            now = datetime.now(UTC)
            due = min((look for look in looks if look), default=now + timedelta(seconds=IDLE_SECONDS))
            wait = min(max((due - now).total_seconds(), 0.001), IDLE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._awake.wait()

    def _advance(self, sandbox: Sandbox, *, stopping: bool = False) -> datetime | None:
        """One step of a pod. Returns when time alone will change something."""
        now, part = datetime.now(UTC), sandbox.current
        before = part.local
        if sandbox.deleting and not before.deleting_since:
            before = replace(before, deleting_since=now, ready=False)
        log = self.store.log(before)
        size = log.stat().st_size if log.exists() else 0
        try:
            after = self.kubelet.advance(before, now=now, stopping=stopping)
        except Exception:
            logger.exception("pod %s cannot be handled", before.name)
            return None
        if after.attempt > before.attempt:
            if before.attempt:
                part.last = part.ended()
            part.offsets[after.attempt] = size
        if after != part.local:
            part.local = after
            sandbox.changed.set()
            self._awake.set()
        elif sandbox.deleting and sandbox.over:
            sandbox.changed.set()
        return self.kubelet.next_look(after, now=now)

    async def _report(self, sandbox: Sandbox) -> None:
        """Tells the API server how the pod is, in order, until it is gone."""
        uid = sandbox.pod["metadata"]["uid"]
        while self.sandboxes.get(uid) is sandbox:
            sandbox.changed.clear()
            if sandbox.pod["spec"]["nodeName"] not in self.fleet.failed:
                await self._tell(sandbox)
                if sandbox.deleting and sandbox.over and uid not in self.kubelet.runs:
                    await self.fleet.remove_pod(sandbox.pod)
                    self._forget(sandbox)
                    return
            await sandbox.changed.wait()

    async def _tell(self, sandbox: Sandbox) -> None:
        phase = sandbox.phase()
        finished = phase in ("Succeeded", "Failed")
        main = sandbox.main.container()
        if sandbox.current is not sandbox.main:
            main = replace(main, waiting="PodInitializing", ready=False)
        status = pod_status(
            sandbox.pod,
            [replace(main, ready=main.ready and not finished)],
            phase=phase,
            ip=sandbox.ip,
            started_at=sandbox.began,
            init_containers=[part.container() for part in sandbox.parts[: sandbox.inits]],
            now=datetime.now(UTC),
        )
        told = repr(status)
        if told == sandbox.reported:
            return
        found = await self.fleet.report(sandbox.pod, status)
        if found is not None:
            sandbox.reported = told
            sandbox.pod = found
        await self._say(sandbox, main)

    async def _say(self, sandbox: Sandbox, main: Container) -> None:
        """The events that a kubelet would record."""
        local = sandbox.current.local
        if main.waiting == "ErrImagePull":
            await self.fleet.record(
                sandbox.pod, "Failed", f"Failed to pull image: {local.message}", warning=True
            )
        elif main.waiting == "CrashLoopBackOff":
            text = f"Back-off restarting failed container {main.name} in pod {local.name}"
            await self.fleet.record(sandbox.pod, "BackOff", text, warning=True)
        elif local.message.startswith(("Startup probe", "Liveness probe", "Readiness probe")):
            await self.fleet.record(sandbox.pod, "Unhealthy", local.message, warning=True)

    def _forget(self, sandbox: Sandbox) -> None:
        uid = sandbox.pod["metadata"]["uid"]
        self.sandboxes.pop(uid, None)
        for part in sandbox.parts:
            self.kubelet.forget(part.local)
            folder = self.store.volumes(part.local.uid)
            if folder.is_symlink():
                folder.unlink()
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(self.store.attempts(part.local.uid), ignore_errors=True)


def _references(spec: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(Secret or ConfigMap, name) of everything that the containers take from them."""
    found: set[tuple[str, str]] = set()
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        for source in container.get("envFrom") or ():
            for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                if key in source:
                    found.add((kind, source[key]["name"]))
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            for key, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if key in source:
                    found.add((kind, source[key]["name"]))
    for volume in spec.get("volumes") or ():
        if "secret" in volume:
            found.add(("Secret", volume["secret"]["secretName"]))
        if "configMap" in volume:
            found.add(("ConfigMap", volume["configMap"]["name"]))
    return found
