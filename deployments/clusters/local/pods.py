"""What the node remembers of one pod, and what others see of it. Pure.

A pod is made by a Deployment or Job, bound to the node, started, and in the end finished (it will not run
again) or removed. Each change is a new value; the node stores it when it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Self

from deployments.clusters.port import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    RESOURCE_LABEL,
    REVISION_LABEL,
    ObservedEvent,
    ObservedPod,
)

DEFAULT_GRACE_SECONDS = 30
TEMPLATE_HASH_LABEL = "pod-template-hash"


class Phase:
    """Phases of a pod, in Kubernetes' words."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, kw_only=True)
class Pod:
    """Facts of one pod. Times are timezone-aware."""

    uid: str
    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    owner_kind: str
    owner_name: str
    owner_uid: str
    spec: Mapping[str, Any]
    """The pod spec as its owner's template had it when the pod was made."""
    created_at: datetime
    phase: str = Phase.PENDING
    reason: str = ""
    message: str = ""
    scheduled_at: datetime | None = None
    ip: str = ""
    attempt: int = 0
    """Number of the newest run of the container; 0 = it never ran."""
    running: bool = False
    """The container's supervisor is alive."""
    started_at: datetime | None = None
    """Of the first run."""
    attempt_started_at: datetime | None = None
    attempt_finished_at: datetime | None = None
    startup_done: bool = False
    """The startup probe of this run has passed."""
    ready: bool = False
    ready_at: datetime | None = None
    """The first time the pod was ready."""
    ready_changed_at: datetime | None = None
    """When `ready` last changed; see `with_readiness`."""
    last_end_at: datetime | None = None
    """Of the newest run that ended, kept over the next one's start."""
    last_run_at: datetime | None = None
    """When that run had begun."""
    last_end_reason: str = ""
    crashes: int = 0
    """Runs in a row that ended early: what back-off counts."""
    exit_code: int | None = None
    restart_limit: int | None = None
    """How often the container may run again; None = as often as restartPolicy says."""
    finished_at: datetime | None = None
    disrupted: bool = False
    """Ended because the node went down: Kubernetes' condition DisruptionTarget."""
    deleting_since: datetime | None = None

    @property
    def resource(self) -> str:
        return self.labels.get(RESOURCE_LABEL, "")

    @property
    def container(self) -> Mapping[str, Any]:
        container: Mapping[str, Any] = self.spec["containers"][0]
        return container

    @property
    def is_finished(self) -> bool:
        """It will not run again."""
        return self.phase in (Phase.SUCCEEDED, Phase.FAILED)

    @property
    def is_managed(self) -> bool:
        return self.labels.get(MANAGED_BY_LABEL) == MANAGED_BY

    @property
    def restarts(self) -> int:
        return max(self.attempt - 1, 0)

    @property
    def grace_seconds(self) -> float:
        return float(self.spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS))

    @property
    def restart_policy(self) -> str:
        return str(self.spec.get("restartPolicy", "Always"))

    @property
    def port(self) -> int | None:
        """The first port that the container declares."""
        ports = self.container.get("ports") or []
        return int(ports[0]["containerPort"]) if ports else None

    def observed(self, *, node: str) -> ObservedPod:
        """The pod as the port shows it."""
        revision = self.labels.get(REVISION_LABEL, "")
        return ObservedPod(
            uid=self.uid,
            name=self.name,
            namespace=self.namespace,
            resource=self.resource,
            revision=int(revision) if revision.isdecimal() else None,
            phase=self.phase,
            created_at=self.created_at,
            scheduled_at=self.scheduled_at,
            started_at=self.started_at,
            ready_at=self.ready_at,
            finished_at=self.finished_at,
            ready=self.ready,
            ready_changed_at=self.ready_changed_at,
            image_pulled_at=self.started_at,
            last_end_at=self.last_end_at,
            last_run_at=self.last_run_at,
            last_end_reason=self.last_end_reason,
            node=node if self.scheduled_at else "",
            address=f"{self.ip}:{self.port}" if self.ip and self.port else "",
            restarts=self.restarts,
            exit_code=self.exit_code,
            reason=self.reason,
            message=self.message,
            deleting_since=self.deleting_since,
            owner=self.owner_uid,
        )

    def with_readiness(self, ready: bool, *, at: datetime) -> Self:
        """The pod that is ready, or not, since a moment; unchanged if it was so before."""
        if ready == self.ready:
            return self
        return replace(self, ready=ready, ready_at=self.ready_at or at, ready_changed_at=at)

    def to_json(self) -> dict[str, Any]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        values = dict(record)
        for name in _TIMES:
            if values.get(name):
                values[name] = datetime.fromisoformat(values[name])
        return cls(**values)


_TIMES = tuple(item.name for item in fields(Pod) if item.name.endswith(("_at", "_since")))


def pod_events(pod: Pod) -> list[ObservedEvent]:
    """What happened to a pod, as a kubelet would tell it."""
    told = [
        (pod.scheduled_at, "Scheduled", "A place on the node was found.", False),
        (pod.started_at, "Started", "The container was started.", False),
        (pod.attempt_finished_at if pod.crashes else None, "BackOff", pod.message or pod.reason, True),
        (pod.finished_at, pod.reason, pod.message, pod.phase == Phase.FAILED),
        (pod.created_at if pod.reason == "Unschedulable" else None, "FailedScheduling", pod.message, True),
        (pod.deleting_since, "Killing", "The container was asked to stop.", False),
    ]
    return [
        ObservedEvent(at=at, object=f"Pod {pod.name}", reason=reason, message=message, warning=warning)
        for at, reason, message, warning in told
        if at is not None
    ]
