"""Derives the state of a workspace, and what customers read with it, from facts. Pure, and total.

It has no revisions and one pod, so it is simpler than a deployment: running with a ready pod, paused when
nothing but its volume is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deployments.clusters.port import Observation, ObservedPod
from deployments.reconcile.conditions import Condition, Problem, reconciled
from deployments.reconcile.deletion import VOLUMES, inventory_of, what_is_left
from deployments.reconcile.status import ServingStatus, State
from deployments.reconcile.waiting import Waiting, longest_wait


def workspace_status(
    *, runs: bool, state_before: str, seen: Observation, problem: Problem | None, settled: bool
) -> ServingStatus:
    """Everything that customers read about a workspace that is not to go.

    `runs`: the customer wants it to. `problem`: what the last attempt to change the cluster ran into;
    `settled`: the cluster has what is wanted.
    """
    ready = [pod for pod in seen.pods if pod.ready and pod.deleting_since is None]
    if not runs:
        state, condition = _stopping(state_before, seen)
    elif ready:
        state = State.RUNNING
        condition = Condition(
            type="Ready", holds=True, reason="Serving", message="The notebook server answers."
        )
    else:
        state, condition = _starting(seen.pods, problem)
    told = problem if not settled else None
    conditions = (condition, reconciled(told)) if settled or told else (condition,)
    return ServingStatus(state=state, serving=None, ready_replicas=len(ready), conditions=conditions)


def is_paused(seen: Observation) -> bool:
    """Nothing but the volume is left."""
    return not seen.pods and all(item.ref.kind in VOLUMES for item in seen.objects)


def _stopping(state_before: str, seen: Observation) -> tuple[State, Condition]:
    if is_paused(seen):
        message = "Nothing runs, and nothing is billed; the volume is kept."
        return State.PAUSED, Condition(type="Ready", holds=False, reason="Paused", message=message)
    # There is no word for "on its way to paused": it is what it was, until nothing runs.
    state = State.RUNNING if state_before == State.PAUSED else State(state_before)
    message = what_is_left(inventory_of(seen))
    return state, Condition(type="Ready", holds=False, reason="Stopping", message=message)


def _starting(pods: Sequence[ObservedPod], problem: Problem | None) -> tuple[State, Condition]:
    wait = _in_own_words(longest_wait(pods))
    if problem is not None and problem.is_final:
        wait = Waiting(rank=0, reason=problem.reason, message=problem.message, is_hopeless=True)
    waits = State.PENDING if wait.needs_capacity else State.INITIALIZING
    state = State.FAILED if wait.is_hopeless else waits
    return state, Condition(type="Ready", holds=False, reason=wait.reason, message=wait.message)


def _in_own_words(wait: Waiting) -> Waiting:
    """There is no model to load."""
    if wait.reason != "Loading":
        return wait
    message = wait.message.replace("The model is loading", "The notebook server starts")
    return replace(wait, message=message)
