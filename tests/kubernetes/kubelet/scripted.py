"""Pods whose life a script decides, without a process: cheap enough for thousands.

    def script(pod, run):                     # run 1, 2, 3… of the pod's containers
        return [Running(after=0.5), Ready(after=2), Exit(137, reason="OOMKilled", after=10)]

    Scripted(script)                          # by default: runs and is ready at once, for ever

A script ends with what it said last: without an Exit the containers run on. By `scripted.play(uid, steps)` a
test overrules it at any moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from tests.kubernetes.kubelet.fleet import Fleet, Pod
from tests.kubernetes.kubelet.statuses import Container, pod_status


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The containers do not start: ErrImagePull, CreateContainerConfigError…"""

    reason: str
    message: str = ""
    after: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Running:
    """The containers have started and are not ready."""

    after: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Ready:
    """They are ready."""

    after: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Unready:
    """They run on and are no longer ready."""

    after: float = 0.0


@dataclass(frozen=True)
class Exit:
    """The main container ends."""

    code: int
    reason: str = ""
    message: str = ""
    after: float = 0.0


Step = Wait | Running | Ready | Unready | Exit
Script = Callable[[Pod, int], Sequence[Step]]


def ready_at_once(pod: Pod, run: int) -> Sequence[Step]:
    """The default script: pods of Jobs succeed, others are ready for ever."""
    owners = pod["metadata"].get("ownerReferences") or [{}]
    return [Running(), Exit(0)] if owners[0].get("kind") == "Job" else [Ready()]


@dataclass
class Life:
    """What is known of one pod."""

    pod: Pod
    ip: str
    began: datetime
    containers: list[Container]
    play: asyncio.Task[None] | None = None
    stop: asyncio.Task[None] | None = None
    phase: str = "Pending"


class Scripted:
    """The runner that follows scripts."""

    def __init__(
        self, script: Script = ready_at_once, *, stop_seconds: float = 0.0, backoff_seconds: float = 0.5
    ) -> None:
        self.script = script
        self.stop_seconds = stop_seconds
        """How long containers take to end when they are asked to."""
        self.backoff_seconds = backoff_seconds
        self.lives: dict[str, Life] = {}
        self._addresses = count(1)
        self._fleet: Fleet | None = None

    @property
    def fleet(self) -> Fleet:
        assert self._fleet is not None
        return self._fleet

    async def begin(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def end(self) -> None:
        self.lives.clear()

    def sync(self, pod: Pod) -> None:
        uid = pod["metadata"]["uid"]
        life = self.lives.get(uid)
        if life is None:
            if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                if pod["metadata"].get("deletionTimestamp"):
                    self.fleet.spawn(self.fleet.remove_pod(pod))
                return
            life = self.lives[uid] = Life(
                pod=pod,
                ip=self._address(),
                began=datetime.now(UTC),
                containers=[
                    Container(name=item["name"], image=item["image"]) for item in pod["spec"]["containers"]
                ],
            )
            if not pod["metadata"].get("deletionTimestamp"):
                life.play = self.fleet.spawn(self._live(life))
        life.pod = pod
        if pod["metadata"].get("deletionTimestamp") and life.stop is None:
            life.stop = self.fleet.spawn(self._stop(life))

    def gone(self, pod: Pod) -> None:
        life = self.lives.pop(pod["metadata"]["uid"], None)
        if life and life.play:
            life.play.cancel()

    def node_failed(self, name: str) -> None:
        for life in self._on(name):
            for task in (life.play, life.stop):
                if task:
                    task.cancel()

    def node_recovered(self, name: str) -> None:
        """What ran there starts anew."""
        for life in self._on(name):
            del self.lives[life.pod["metadata"]["uid"]]

    def play(self, uid: str, steps: Sequence[Step]) -> None:
        """Makes one pod do this from now on. To be called in the fleet's thread: `fleet.do`."""
        life = self.lives[uid]
        if life.play:
            life.play.cancel()
        life.play = self.fleet.spawn(self._live(life, steps))

    def _on(self, node: str) -> list[Life]:
        return [life for life in self.lives.values() if life.pod["spec"]["nodeName"] == node]

    # --- A life --------------------------------------------------------------------------------------------

    async def _live(self, life: Life, first: Sequence[Step] | None = None) -> None:
        for run in count(life.containers[0].restarts + 1):
            steps = list(first if first is not None else self.script(life.pod, run))
            first = None
            for number, step in enumerate(steps):
                if step.after:
                    await asyncio.sleep(step.after)
                self._take(life, step)
                rest = steps[number + 1 :]
                if rest and not rest[0].after:
                    continue  # what lasts no time is not reported by itself
                await self._report(life)
            if life.containers[0].exit_code is None or life.phase in ("Succeeded", "Failed"):
                return
            await self._back_off(life)

    def _take(self, life: Life, step: Step) -> None:
        now = datetime.now(UTC)
        changes: dict[str, Any]
        if isinstance(step, Wait):
            changes = {"waiting": step.reason, "message": step.message, "ready": False}
        elif isinstance(step, Exit):
            changes = {
                "exit_code": step.code,
                "reason": step.reason,
                "message": step.message,
                "finished_at": now,
                "ready": False,
                "started": False,
            }
        else:
            changes = {"ready": isinstance(step, Ready), "started": True, "message": ""}
        for number, container in enumerate(life.containers):
            if not isinstance(step, Wait):
                changes = {"started_at": container.started_at or now, "waiting": "", **changes}
            life.containers[number] = replace(container, **changes)
        if not isinstance(step, Wait):
            life.phase = "Running"
        if isinstance(step, Exit) and not self._starts_again(life, step.code):
            life.phase = "Failed" if step.code else "Succeeded"

    def _starts_again(self, life: Life, code: int) -> bool:
        policy = life.pod["spec"].get("restartPolicy", "Always")
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    async def _back_off(self, life: Life) -> None:
        """Waits as a kubelet does before it starts a container again."""
        wait = self.backoff_seconds * 2 ** min(life.containers[0].restarts, 5)
        for number, container in enumerate(life.containers):
            life.containers[number] = Container(
                name=container.name,
                image=container.image,
                waiting="CrashLoopBackOff",
                message=f"back-off {wait:g}s restarting failed container={container.name}",
                restarts=container.restarts,
                last=replace(container, last=None),
            )
        await self._report(life)
        await asyncio.sleep(wait)
        for number, container in enumerate(life.containers):
            life.containers[number] = replace(
                container, waiting="", message="", restarts=container.restarts + 1
            )

    async def _report(self, life: Life) -> None:
        status = pod_status(
            life.pod,
            life.containers,
            phase=life.phase,
            ip=life.ip,
            started_at=life.began,
            now=datetime.now(UTC),
        )
        found = await self.fleet.report(life.pod, status)
        if found is not None:
            life.pod = found

    async def _stop(self, life: Life) -> None:
        if self.stop_seconds:
            await asyncio.sleep(self.stop_seconds)
        if life.play:
            life.play.cancel()
        owners = life.pod["metadata"].get("ownerReferences") or [{}]
        if owners[0].get("kind") == "Job" and life.phase not in ("Succeeded", "Failed"):
            self._take(life, Exit(143))
            life.phase = "Failed"
            await self._report(life)
        await self.fleet.remove_pod(life.pod)

    def _address(self) -> str:
        number = next(self._addresses)
        return f"10.{200 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
