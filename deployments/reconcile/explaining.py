"""Which of the things that do not hold explains a workload: of a deployment, of a job, of a cluster that does
not answer. Pure; the answer is the column `explanation`, None as long as there is nothing to explain.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from deployments.clusters.port import Observation
from deployments.reconcile.conditions import RECONCILED, Condition, Problem
from deployments.reconcile.deletion import STUCK, Deleting
from deployments.reconcile.explanation import Explanation, Why, explain, explanation_json
from deployments.reconcile.status import Job, JobStatus, ServingStatus
from deployments.reconcile.waiting import NOT_CREATED, longest_wait

Stored = Mapping[str, Any] | None
"""The column as it was."""


def serving_explanation(
    status: ServingStatus, seen: Observation, *, spec: Mapping[str, Any], before: Stored, now: datetime
) -> dict[str, Any] | None:
    """Why a deployment does not run, or not as asked; None while it does."""
    reason = _serving_reason(status, seen)
    return explanation_json(_explained(reason, seen, spec), before=before, now=now)


def job_explanation(
    status: JobStatus,
    seen: Observation,
    *,
    spec: Mapping[str, Any],
    ended: str,
    before: Stored,
    now: datetime,
) -> dict[str, Any] | None:
    """Why a job does not train, or has failed; None while it trains, and once it succeeded or was canceled.

    `ended` is the reason of the failure.
    """
    if status.state in (Job.SUCCEEDED, Job.CANCELLED):
        return None
    condition = status.conditions[0]
    reason: tuple[str, str] | None = (condition.reason, condition.message)
    if condition.reason == "Training":
        reason = None
    elif status.state is Job.FAILED:
        reason = (ended, condition.message)
    else:
        reason = _unless_known_better(reason, status.conditions)
    return explanation_json(_explained(reason, seen, spec), before=before, now=now)


def deletion_explanation(
    deleting: Deleting, seen: Observation, *, before: Stored, now: datetime
) -> dict[str, Any] | None:
    """Why a workload that is to go is still there: what holds it once that takes too long."""
    if deleting.is_gone:
        return None
    stuck = (condition for condition in deleting.conditions if condition.type == STUCK)
    told = next(stuck, deleting.conditions[0])
    explanation = explain(reason=told.reason, message=told.message, objects=seen.objects)
    return explanation_json(explanation, before=before, now=now)


def problem_explanation(problem: Problem, *, before: Stored, now: datetime) -> dict[str, Any] | None:
    """Of a workload whose cluster could not be looked at."""
    explanation = explain(reason=problem.reason, message=problem.message)
    return explanation_json(explanation, before=before, now=now)


def _serving_reason(status: ServingStatus, seen: Observation) -> tuple[str, str] | None:
    for condition in status.conditions:
        if condition.type in ("Ready", "Updated") and not condition.holds:
            return _unless_known_better((condition.reason, condition.message), status.conditions)
    if status.degradations:
        wait = longest_wait(pod for pod in seen.pods if pod.deleting_since is None)
        return wait.reason, status.degradations[0]["message"]
    return _unless_known_better(None, status.conditions)


def _unless_known_better(
    reason: tuple[str, str] | None, conditions: tuple[Condition, ...]
) -> tuple[str, str] | None:
    """What keeps us from changing the cluster explains also why nothing was created."""
    for condition in conditions:
        if condition.type == RECONCILED and not condition.holds:
            return (
                (condition.reason, condition.message)
                if reason is None or reason[0] == NOT_CREATED.reason
                else reason
            )
    return reason


def _explained(
    reason: tuple[str, str] | None, seen: Observation, spec: Mapping[str, Any]
) -> Explanation | None:
    if reason is None:
        return None
    word, message = reason
    return explain(reason=word, message=message, pods=seen.pods, objects=seen.objects, need=need_of(spec))


def need_of(spec: Mapping[str, Any]) -> dict[str, float]:
    """What one pod of a stored specification asks for: resource name -> cores, bytes or devices."""
    resources = spec.get("resources") or {}
    need = {
        "cpu": (resources.get("cpu_millicores") or 0) / 1000,
        "memory": float(resources.get("memory_bytes") or 0),
    }
    if resources.get("accelerator_resource"):
        need[resources["accelerator_resource"]] = float(resources.get("accelerator_count") or 0)
    return need


def reason_of_failure(error: Mapping[str, Any] | None, *, ended: str, problem: Problem | None) -> str:
    """The word for why a job failed: what refused it, what its run reported, or how its replica ended."""
    if problem is not None and problem.is_final:
        return problem.reason
    if error is not None and error.get("customer"):
        return Why.BAD_INPUT.value
    return ended or Why.CRASHED.value
