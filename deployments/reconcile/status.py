"""Derives the state of a workload, and everything else that customers read, from facts. Pure, and total.

The states are those of `DeploymentState` and `JobState`. None is ever chosen by anybody: the same facts give
the same state, whatever was written before. `paused` and `deleted` are said when nothing is observed, never
because a request to delete was accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from deployments.clusters.port import Observation, ObservedObject
from deployments.reconcile.conditions import Condition, Problem, reconciled
from deployments.reconcile.deletion import inventory_of, what_is_left
from deployments.reconcile.rollout import Rollout, ServingWish, Wish, pods_of, ready_of
from deployments.reconcile.waiting import Waiting, longest_wait


class State(StrEnum):
    """Values of `deployments.serving.models.DeploymentState`, for a module that knows no Django."""

    PENDING = "pending"
    INITIALIZING = "initializing"
    RUNNING = "running"
    UPDATING = "updating"
    UPDATE_FAILED = "update_failed"
    PAUSED = "paused"
    SCALED_TO_ZERO = "scaled_to_zero"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


@dataclass(frozen=True, kw_only=True)
class ServingStatus:
    """The facts of a deployment as customers read them."""

    state: State
    serving: int | None
    """Number of the revision that answers, also while it is down for a moment; None before the first."""
    ready_replicas: int
    """Of the revision that answers."""
    conditions: tuple[Condition, ...]
    degradations: tuple[dict[str, str], ...] = ()


def serving_status(
    wish: ServingWish,
    rollout: Rollout,
    *,
    state_before: str,
    seen: Observation,
    problem: Problem | None,
    settled: bool,
) -> ServingStatus:
    """Everything that customers read about a deployment.

    `problem` is what the last attempt to change the cluster ran into; `settled` says that the cluster has
    what is wanted, so that the problem is over.
    """
    serving = rollout.serving
    ready = len(ready_of(seen, serving)) if serving is not None else 0
    if wish.desired is not Wish.RUNNING:
        return _stopping(wish, state_before, serving, ready, seen, problem)

    state = State.RUNNING
    conditions: list[Condition] = []
    degradations: tuple[dict[str, str], ...] = ()
    if serving is not None and ready:
        conditions.append(
            Condition(
                type="Ready",
                holds=True,
                reason="Serving",
                message=f"Revision {serving} answers with {_count(ready, 'replica')}.",
            )
        )
        if (serving == wish.target or rollout.failure is not None) and ready < wish.replicas:
            wait = longest_wait(pods_of(seen, serving))
            message = f"{ready} of {wish.replicas} replicas are ready. {wait.message}"
            degradations = ({"reason": "FewerReplicas", "message": message},)
    else:
        state, unready = _unready(wish, rollout, seen, problem)
        conditions.append(unready)
    if (old := _old(wish, rollout)) is not None:
        conditions.append(_not_updated(wish, rollout, old, seen))
        if state is State.RUNNING:
            state = State.UPDATE_FAILED if rollout.failure is not None else State.UPDATING
    return ServingStatus(
        state=state,
        serving=serving,
        ready_replicas=ready,
        conditions=(*conditions, *_reconciled(problem, settled)),
        degradations=degradations,
    )


def _old(wish: ServingWish, rollout: Rollout) -> int | None:
    """The revision beside or after which the one aimed at comes; None unless an update is under way."""
    old = rollout.serving if rollout.serving is not None else rollout.fallback
    return old if old != wish.target else None


def _unready(
    wish: ServingWish, rollout: Rollout, seen: Observation, problem: Problem | None
) -> tuple[State, Condition]:
    """The state of a deployment that does not answer, and why it does not."""
    if rollout.is_clearing:
        message = (
            f"The replicas before make room for revision {wish.target}; nothing answers until it is ready."
        )
        return State.PENDING, Condition(type="Ready", holds=False, reason="Recreating", message=message)
    expected = wish.target if rollout.answering is None else rollout.answering
    if expected not in rollout.replicas:
        expected = wish.target
    wait = longest_wait(pods_of(seen, expected))
    if expected != wish.target:
        problem = None  # it is about what the cluster was to be changed to
    if wait.is_hopeless or (problem is not None and problem.is_final):
        state = State.FAILED
    else:
        state = State.PENDING if wait.needs_capacity else State.INITIALIZING
    return state, _not_ready(wait, problem)


def _stopping(
    wish: ServingWish,
    state_before: str,
    serving: int | None,
    ready: int,
    seen: Observation,
    problem: Problem | None,
) -> ServingStatus:
    gone = seen.is_empty
    if gone:
        state, word = State.PAUSED, "Paused"
    else:
        # There is no word for "on its way to paused": it is what it was, until nothing is observed.
        state = State.RUNNING if state_before == State.PAUSED else State(state_before)
        word = "Stopping"
    message = "Nothing of it is left on the cluster." if gone else what_is_left(inventory_of(seen))
    return ServingStatus(
        state=state,
        serving=serving,
        ready_replicas=ready,
        conditions=(
            Condition(type="Ready", holds=False, reason=word, message=message),
            *_reconciled(problem, gone),
        ),
    )


def _not_ready(wait: Waiting, problem: Problem | None) -> Condition:
    if problem is not None and problem.is_final:
        return Condition(type="Ready", holds=False, reason=problem.reason, message=problem.message)
    return Condition(type="Ready", holds=False, reason=wait.reason, message=wait.message)


def _not_updated(wish: ServingWish, rollout: Rollout, old: int, seen: Observation) -> Condition:
    """How far the update is, and which revision answers meanwhile."""
    wait = longest_wait(pods_of(seen, wish.target))
    if rollout.failure is not None:
        reason = rollout.failure.reason
        message = (
            f"Revision {wish.target} was given up and holds nothing: {rollout.failure.message} "
            f"Revision {old} serves on. Change the deployment, or roll back to any revision."
        )
    elif wish.canary is not None:
        share = f"{wish.canary.weight} % of the requests"
        if rollout.is_sharing:
            reason = "Canary"
            message = (
                f"Revision {wish.target} answers {share} with "
                f"{_count(rollout.replicas[wish.target], 'replica')}, revision {old} the others with "
                f"{wish.replicas}; both are billed. Promote it or abort."
            )
        else:
            reason = wait.reason
            message = f"Revision {old} answers until the canary, revision {wish.target}, can take {share}. "
            message += wait.message
    elif old in rollout.replicas:
        reason, message = wait.reason, f"Revision {old} serves until revision {wish.target} is ready. "
        message += wait.message
    else:
        reason = "Recreating" if rollout.is_clearing else wait.reason
        message = f"Revision {wish.target} takes the place of revision {old}, which has gone. {wait.message}"
    return Condition(type="Updated", holds=False, reason=reason, message=message)


def _reconciled(problem: Problem | None, settled: bool) -> tuple[Condition, ...]:
    """Nothing is said while the first steps are still to be taken."""
    if settled:
        return (reconciled(None),)
    return (reconciled(problem),) if problem is not None else ()


# --- Fine-tuning -------------------------------------------------------------------------------------------


class Job(StrEnum):
    """Values of `deployments.tuning.models.JobState`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (Job.SUCCEEDED, Job.FAILED, Job.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """The facts of a fine-tuning job as customers read them."""

    state: Job
    conditions: tuple[Condition, ...]


def run_succeeded(seen: Observation, *, nodes: int = 1) -> bool:
    """The cluster says that the training run did all of its work, on all of its nodes."""
    return (
        any((item.status.get("succeeded") or 0) >= nodes for item in _jobs(seen))
        or sum(pod.phase == "Succeeded" for pod in seen.pods) >= nodes
    )


def run_failed(seen: Observation) -> bool:
    """The cluster says that the training run failed and is not tried again."""
    if any(item.ref.kind == "IPUJob" for item in seen.objects):
        # Graphcore's operator does not try again a worker that must not be restarted.
        return any(pod.phase == "Failed" for pod in seen.pods)
    return any(
        condition.get("type") == "Failed" and condition.get("status") == "True"
        for item in _jobs(seen)
        for condition in item.status.get("conditions") or ()
    )


def job_status(
    *,
    state_before: str,
    canceled: bool,
    started: bool,
    seen: Observation,
    verdict: Job | None,
    error: str,
    problem: Problem | None,
    settled: bool,
) -> JobStatus:
    """Everything that customers read about a fine-tuning job.

    `started`: some replica of it has ever started. `verdict`: how the run ended, once its result is
    published or its failure understood, `error` being what the customer is told of the failure.
    """
    state = Job(state_before)
    if state.is_final:
        pass
    elif canceled:
        state = Job.CANCELLED if seen.is_empty else state
    elif verdict is not None:
        state = verdict
    else:
        state = Job.RUNNING if started else Job.QUEUED
    return JobStatus(
        state=state,
        conditions=(
            _completion(state, canceled=canceled, seen=seen, error=error),
            *_reconciled(problem, settled),
        ),
    )


def _completion(state: Job, *, canceled: bool, seen: Observation, error: str) -> Condition:
    if state is Job.SUCCEEDED:
        return Condition(type="Succeeded", holds=True, reason="Completed", message="The result is published.")
    if state is Job.FAILED:
        return Condition(type="Succeeded", holds=False, reason="Failed", message=error)
    if state is Job.CANCELLED:
        return Condition(type="Succeeded", holds=False, reason="Cancelled", message="Canceled as asked.")
    if canceled:
        return Condition(
            type="Succeeded", holds=False, reason="Stopping", message=what_is_left(inventory_of(seen))
        )
    if any(pod.started_at and pod.phase == "Running" and not pod.deleting_since for pod in seen.pods):
        return Condition(type="Succeeded", holds=False, reason="Training", message="The model is training.")
    wait = longest_wait(seen.pods)
    return Condition(type="Succeeded", holds=False, reason=wait.reason, message=wait.message)


def _jobs(seen: Observation) -> list[ObservedObject]:
    return [item for item in seen.objects if item.ref.kind == "Job"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
