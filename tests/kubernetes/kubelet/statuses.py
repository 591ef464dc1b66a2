"""The status that a kubelet gives a pod, from facts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.kubernetes.kubelet.nodes import stamp

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Container:
    """How one container is. Exactly one of the three: it waits, it runs, it has ended."""

    name: str
    image: str = ""
    waiting: str = ""
    """Reason to wait: ContainerCreating, ErrImagePull, CrashLoopBackOff…"""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    """Of the end; by default Completed or Error."""
    ready: bool = False
    started: bool = False
    """The startup probe has passed."""
    restarts: int = 0
    last: Container | None = None
    """The run before this one."""

    def state(self) -> dict[str, Any]:
        if self.waiting:
            return {
                "waiting": {"reason": self.waiting, **({"message": self.message} if self.message else {})}
            }
        if self.exit_code is not None and self.finished_at is not None:
            ended: dict[str, Any] = {
                "exitCode": self.exit_code,
                "reason": self.reason or ("Completed" if self.exit_code == 0 else "Error"),
                "startedAt": stamp(self.started_at or self.finished_at),
                "finishedAt": stamp(self.finished_at),
            }
            return {"terminated": ended | ({"message": self.message} if self.message else {})}
        if self.started_at:
            return {"running": {"startedAt": stamp(self.started_at)}}
        return {"waiting": {"reason": "ContainerCreating"}}

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state(),
            "lastState": self.last.state() if self.last else {},
        }


def pod_status(
    pod: Json,
    containers: Sequence[Container],
    *,
    phase: str,
    ip: str = "",
    started_at: datetime,
    init_containers: Sequence[Container] = (),
    reason: str = "",
    message: str = "",
    disrupted: str = "",
    now: datetime,
) -> dict[str, Any]:
    """A patch of the pod's status. A condition keeps the time at which it last changed."""
    before = {item["type"]: item for item in (pod.get("status") or {}).get("conditions") or ()}
    finished = phase in ("Succeeded", "Failed")
    ready = bool(containers) and all(item.ready for item in containers) and not finished
    initialized = all(item.exit_code == 0 for item in init_containers)
    unready = (
        "PodCompleted" if phase == "Succeeded" else "PodFailed" if phase == "Failed" else "ContainersNotReady"
    )
    names = " ".join(item.name for item in containers if not item.ready)
    why = "" if finished else f"containers with unready status: [{names}]"
    wanted: dict[str, tuple[bool, str, str]] = {
        "PodReadyToStartContainers": (bool(ip) and not finished, "", ""),
        "Initialized": (initialized, "" if initialized else "ContainersNotInitialized", ""),
        "Ready": (ready, "" if ready else unready, "" if ready else why),
        "ContainersReady": (ready, "" if ready else unready, "" if ready else why),
    }
    conditions = []
    for name, (holds, cause, text) in wanted.items():
        status = "True" if holds else "False"
        known = before.get(name, {})
        since = known.get("lastTransitionTime") if known.get("status") == status else None
        entry: dict[str, Any] = {"type": name, "status": status, "lastTransitionTime": since or stamp(now)}
        # Nulls remove what an earlier patch has said.
        conditions.append(entry | {"reason": cause or None, "message": text or None})
    if disrupted:
        conditions.append(
            {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": disrupted,
                "message": message,
                "lastTransitionTime": stamp(now),
            }
        )
    found: dict[str, Any] = {
        "phase": phase,
        "conditions": conditions,
        "startTime": stamp(started_at),
        "hostIP": "127.0.0.1",
        "containerStatuses": [item.as_json() for item in containers],
        "reason": reason or None,
        "message": message or None,
    }
    if ip:
        found |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    if init_containers:
        found["initContainerStatuses"] = [item.as_json() for item in init_containers]
    return found
