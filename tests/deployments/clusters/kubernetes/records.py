"""Objects as an API server of version 1.36 showed them, cut down to what matters."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

CREATED, SCHEDULED, STARTED, READY = (
    "2026-11-23T08:00:00Z",
    "2026-11-23T08:00:01Z",
    "2026-11-23T08:00:05Z",
    "2026-11-23T08:00:30Z",
)


def condition(type: str, status: str, at: str = SCHEDULED, **more: str) -> Json:
    return {"type": type, "status": status, "lastProbeTime": None, "lastTransitionTime": at, **more}


def running(**more: Any) -> Json:
    """The status of a container that runs."""
    return {
        "name": "runtime",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "lastState": {},
        "state": {"running": {"startedAt": STARTED}},
        **more,
    }


def ended(code: int, reason: str, *, finished: str = "2026-11-23T08:05:00Z", **more: str) -> Json:
    """A state or last state of a container that ended."""
    times = {"startedAt": STARTED, "finishedAt": finished}
    return {"terminated": {"exitCode": code, "reason": reason, **times, **more}}


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def ready_conditions() -> list[Json]:
    return [
        condition("PodReadyToStartContainers", "True", STARTED),
        condition("Initialized", "True"),
        condition("Ready", "True", READY),
        condition("ContainersReady", "True", READY),
        condition("PodScheduled", "True"),
    ]


def unready_conditions(at: str = SCHEDULED, **more: str) -> list[Json]:
    return [
        condition("Initialized", "True"),
        condition("Ready", "False", at, reason="ContainersNotReady", **more),
        condition("PodScheduled", "True"),
    ]


def pod(
    *, metadata: Json | None = None, spec: Json | None = None, status: Json | None = None, **states: Any
) -> Json:
    """A pod that serves; `status` replaces parts of its status, `states` are of its one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "dep-1-r2-7d9f8-x2k4p",
            "namespace": "org-1",
            "uid": "pod-uid",
            "creationTimestamp": CREATED,
            "labels": {
                "app.kubernetes.io/managed-by": "marketplace",
                "marketplace/installation": "marketplace",
                "marketplace/resource": "dep_1",
                "marketplace/revision": "2",
            },
            **(metadata or {}),
        },
        "spec": {
            "nodeName": "gpu-1",
            "containers": [
                {"name": "runtime", "ports": [{"containerPort": 8000, "name": "http", "protocol": "TCP"}]}
            ],
            **(spec or {}),
        },
        "status": {
            "phase": "Running",
            "podIP": "10.244.0.7",
            "startTime": SCHEDULED,
            "conditions": ready_conditions(),
            "containerStatuses": [running(**states)],
            **(status or {}),
        },
    }
