"""Why a pod does not serve yet, in the cluster's own words and numbers, and if waiting can help. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deployments.clusters.port import ObservedPod
from deployments.reconcile.termination import (
    TerminationReason,
    customer_text,
    helps_to_retry,
    termination_reason,
)
from runtimes.contract import WEIGHTS_CONTAINER, ExitCode

HOPELESS_RESTARTS = 5
"""A container that ended so often without ever having been ready will not be ready by itself. With the pauses
that Kubernetes makes between restarts (10 s, doubling) that is after five minutes."""

_HOPELESS_WORDS = ("InvalidImageName", "ErrImageNeverPull")
_IMAGE_WORDS = (
    *_HOPELESS_WORDS,
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "ImageInspectError",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
)
LOST_WORDS = ("NodeLost", "NodeUnreachable")
"""Of a pod that is still there while its node does not report."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What one pod waits for."""

    rank: int
    """Of several pods the one with the highest rank is reported."""
    reason: str
    message: str
    is_hopeless: bool = False
    needs_capacity: bool = False


NOT_CREATED = Waiting(
    rank=0, reason="Starting", message="The cluster is about to create the replicas.", needs_capacity=True
)


def waiting_for(pod: ObservedPod) -> Waiting | None:
    """What the pod waits for; None if it is ready or on its way out."""
    if pod.deleting_since is not None or pod.ready or pod.finished_at is not None:
        return None
    if pod.reason in _IMAGE_WORDS:
        return Waiting(
            rank=50,
            reason=pod.reason,
            message=pod.message or "The container image cannot be fetched.",
            is_hopeless=pod.reason in _HOPELESS_WORDS,
        )
    if pod.reason in LOST_WORDS:
        return Waiting(
            rank=55,
            reason=TerminationReason.NODE_LOST.value,
            message=f"The node {pod.node} does not report. The cluster moves the replica when it stays away.",
        )
    if pod.restarts > 0 or _failed_before_start(pod):
        return _restarting(pod)
    if pod.reason == "Unschedulable":
        return Waiting(
            rank=40,
            reason="Unschedulable",
            message=f"No node has room: {pod.message or 'the cluster does not say why'}",
            needs_capacity=True,
        )
    if pod.scheduled_at is None:
        return Waiting(rank=10, reason="Scheduling", message="Looking for a node.", needs_capacity=True)
    where, to = (f" on {pod.node}", f" to {pod.node}") if pod.node else ("", "")
    if pod.init_container == WEIGHTS_CONTAINER:
        return Waiting(rank=10, reason="FetchingWeights", message=f"The weights are on their way{to}.")
    if pod.started_at is None:
        return Waiting(rank=10, reason="Preparing", message=f"Preparing the container{where}.")
    if pod.ready_at is None:
        return Waiting(rank=10, reason="Loading", message=f"The model is loading{where}.")
    return Waiting(rank=20, reason="NotReady", message=f"The replica{where} does not say that it is ready.")


def longest_wait(pods: Iterable[ObservedPod]) -> Waiting:
    """What the pods together wait for: the worst of them; NOT_CREATED without pods."""
    waits = [wait for pod in pods if (wait := waiting_for(pod))]
    return max(waits, key=lambda wait: (wait.is_hopeless, wait.rank), default=NOT_CREATED)


def _failed_before_start(pod: ObservedPod) -> bool:
    return bool(pod.init_container) and pod.exit_code not in (None, ExitCode.DONE)


def _restarting(pod: ObservedPod) -> Waiting:
    ended = termination_reason(
        word=pod.last_end_reason or pod.reason,
        exit_code=pod.exit_code,
        started=True,
        vanished=False,
        stop_requested=False,
    )
    what = f"container {pod.init_container}" if pod.init_container else "container"
    times = {0: "will be started again", 1: "was started again once"}.get(
        pod.restarts, f"was started again {pod.restarts} times"
    )
    code = "" if pod.exit_code is None else f", last with exit code {pod.exit_code}"
    looping = pod.ready_at is None or pod.reason == "CrashLoopBackOff"
    # Room on a node is like a node: it comes when others go, however long that takes.
    too_often = pod.restarts >= HOPELESS_RESTARTS and ended is not TerminationReason.WEIGHTS_NO_SPACE
    detail = f" {pod.message}" if pod.message else ""
    return Waiting(
        rank=60,
        reason=ended.value,
        message=f"The {what} ended and {times}{code}. {customer_text(ended)}{detail}",
        # Once may be bad luck. What helps no one to retry is hopeless the second time.
        is_hopeless=looping and (too_often or not helps_to_retry(ended)),
    )
