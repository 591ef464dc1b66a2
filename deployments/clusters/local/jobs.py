"""Decides, for one batch/v1 Job, whether its pod is to be made again, and what the Job's status is. Pure.

One completion at a time: completions and parallelism are 1. A pod that failed is judged by the
podFailurePolicy: FailJob ends the Job, Ignore does not count, anything else counts against backoffLimit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from deployments.clusters.local.pods import Phase, Pod
from deployments.clusters.local.rollout import Changes

DEFAULT_BACKOFF_LIMIT = 6
LONGEST_BACKOFF_SECONDS = 30


def plan_job(job: Mapping[str, Any], pods: Sequence[Pod], *, now: datetime) -> Changes:
    """The next step of the Job. `pods` are all of this Job, the finished ones too."""
    if job["metadata"].get("deletionTimestamp"):
        return Changes(delete=tuple(pod.uid for pod in pods if not pod.deleting_since))
    running = [pod for pod in pods if not pod.is_finished]
    unwanted = tuple(pod.uid for pod in running if not pod.deleting_since)
    conditions = _conditions(job, pods, now=now)
    if conditions or job["spec"].get("suspend"):
        return Changes(delete=unwanted)
    deadline = _deadline(job)
    if running:
        return Changes(look_again_at=deadline)
    start_at = _next_start(pods)
    if start_at is None or start_at <= now:
        return Changes(create=1, look_again_at=deadline)
    return Changes(look_again_at=min(start_at, deadline) if deadline else start_at)


def job_status(job: Mapping[str, Any], pods: Sequence[Pod], *, now: datetime) -> dict[str, Any]:
    """The status block, from facts. Shape: batch/v1 JobStatus."""
    active = [pod for pod in pods if not pod.is_finished and not pod.deleting_since]
    succeeded = [pod for pod in pods if pod.phase == Phase.SUCCEEDED]
    failed = [pod for pod in pods if pod.phase == Phase.FAILED and _verdict(job, pod)[0] != "Ignore"]
    status: dict[str, Any] = {
        "startTime": job["metadata"]["creationTimestamp"],
        "active": len(active),
        "ready": sum(pod.ready for pod in active),
        "succeeded": len(succeeded),
        "failed": len(failed),
        "conditions": _conditions(job, pods, now=now),
    }
    if succeeded and succeeded[0].finished_at:
        status["completionTime"] = succeeded[0].finished_at.isoformat()
    return status


def _conditions(job: Mapping[str, Any], pods: Sequence[Pod], *, now: datetime) -> list[dict[str, Any]]:
    """Empty while the Job goes on; else the one condition that says how it ended."""
    if done := next((pod for pod in pods if pod.phase == Phase.SUCCEEDED), None):
        return [
            _condition("Complete", "CompletionsReached", "Reached expected number of succeeded pods", done)
        ]
    counted = []
    for pod in sorted(pods, key=lambda pod: pod.finished_at or now):
        if pod.phase != Phase.FAILED:
            continue
        action, rule = _verdict(job, pod)
        if action == "FailJob":
            message = (
                f"Container {pod.container['name']} for pod {pod.namespace}/{pod.name} failed with exit code "
                f"{pod.exit_code} matching FailJob rule at index {rule}"
            )
            return [_condition("Failed", "PodFailurePolicy", message, pod)]
        if action == "Count":
            counted.append(pod)
    failures = len(counted) + sum(pod.restarts for pod in pods if pod.restart_policy == "OnFailure")
    limit = job["spec"].get("backoffLimit", DEFAULT_BACKOFF_LIMIT)
    if failures > limit:
        last = counted[-1] if counted else pods[-1]
        return [
            _condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit", last)
        ]
    deadline = _deadline(job)
    if deadline and deadline <= now:
        message = "Job was active longer than specified deadline"
        return [_condition("Failed", "DeadlineExceeded", message, None, at=deadline)]
    return []


def _condition(
    kind: str, reason: str, message: str, pod: Pod | None, *, at: datetime | None = None
) -> dict[str, Any]:
    since = at or (pod and (pod.finished_at or pod.attempt_finished_at))
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": since.isoformat() if since else None,
    }


def _verdict(job: Mapping[str, Any], pod: Pod) -> tuple[str, int]:
    """(action, index of the rule that says so) for a failed pod; the first rule that matches wins."""
    for index, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules", ())):
        codes = rule.get("onExitCodes")
        if codes and pod.exit_code and (pod.exit_code in codes["values"]) == (codes["operator"] == "In"):
            return rule["action"], index
        for pattern in rule.get("onPodConditions") or ():
            if pattern["type"] == "DisruptionTarget" and pod.disrupted:
                return rule["action"], index
    return "Count", -1


def _next_start(pods: Sequence[Pod]) -> datetime | None:
    """When the next pod may be made: later after each failure in a row; at once after the node went down."""
    failed = sorted(
        (pod for pod in pods if pod.finished_at), key=lambda pod: pod.finished_at or pod.created_at
    )
    if not failed or failed[-1].disrupted or failed[-1].finished_at is None:
        return None
    failures = sum(not pod.disrupted for pod in failed)
    return failed[-1].finished_at + timedelta(seconds=min(2 ** (failures - 1), LONGEST_BACKOFF_SECONDS))


def _deadline(job: Mapping[str, Any]) -> datetime | None:
    seconds = job["spec"].get("activeDeadlineSeconds")
    if seconds is None:
        return None
    return datetime.fromisoformat(job["metadata"]["creationTimestamp"]) + timedelta(seconds=seconds)
