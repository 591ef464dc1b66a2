"""Why a workload does not run (fully): one object, the same for deployments and jobs. Pure.

`Why` is the list of all answers. What each means (state, who can mend it, whether waiting helps) is one row
of one table. The words that lead to it are those of the conditions, of pods and of what the cluster refused,
so that no second opinion on a pod is formed here: see `waiting` and `termination`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from deployments.clusters.port import ObservedObject, ObservedPod
from deployments.clusters.quantities import parse
from deployments.reconcile.scheduling import QuotaExcess, Verdict, read_quota, read_verdict
from deployments.reconcile.termination import TerminationReason
from deployments.reconcile.waiting import waiting_for


class Fixer(StrEnum):
    """Who can change it."""

    YOU = "you"
    PROVIDER = "provider"
    UPSTREAM = "upstream"
    """Somebody whose service we use: a registry, a model hub."""
    NOBODY = "nobody"
    """Nothing is wrong: it takes its time."""


class Why(StrEnum):
    """Every reason for which a workload does not run."""

    # Nothing is wrong
    CREATING = "Creating"
    SCHEDULING = "Scheduling"
    PREPARING = "Preparing"
    WEIGHTS = "FetchingWeights"
    LOADING = "LoadingModel"
    RECREATING = "Recreating"
    UPDATING = "Updating"
    STOPPING = "Stopping"
    PAUSED = "Paused"
    SCALED_TO_ZERO = "ScaledToZero"
    # No place
    NO_CAPACITY = "NoCapacity"
    NO_SUCH_NODE = "NoSuchNode"
    NO_VOLUME = "NoVolume"
    QUOTA = "QuotaExceeded"
    # No image
    IMAGE_NOT_FOUND = "ImageNotFound"
    IMAGE_FORBIDDEN = "ImageForbidden"
    IMAGE_INVALID = "ImageInvalid"
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    # No weights
    WEIGHTS_MISSING = "WeightsMissing"
    WEIGHTS_CORRUPT = "WeightsCorrupt"
    WEIGHTS_NO_SPACE = "WeightsNoSpace"
    # It ends
    BAD_INPUT = "BadInput"
    BAD_CONFIGURATION = "BadConfiguration"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASHED = "Crashed"
    KILLED = "Killed"
    INTERRUPTED = "Interrupted"
    ENDED = "Ended"
    TOO_SLOW = "ProgressDeadlineExceeded"
    # It does not answer
    NOT_READY = "NotReady"
    NODE_LOST = "NodeLost"
    EVICTED = "Evicted"
    # The cluster
    REJECTED = "Rejected"
    FORBIDDEN = "Forbidden"
    CLUSTER_UNREACHABLE = "ClusterUnreachable"
    CLUSTER_MISCONFIGURED = "ClusterMisconfigured"
    CONFLICT = "Conflict"
    DELETION_STUCK = "DeletionStuck"
    INTERNAL = "InternalError"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Meaning:
    """What a reason stands for."""

    state: str
    """Of a deployment that has never answered and has this reason: `State` and `Why` agree by this."""
    who: Fixer
    retry: bool
    """Whether waiting, or trying the same again, can help."""


MEANINGS: Mapping[Why, Meaning] = {
    Why.CREATING: Meaning("pending", Fixer.NOBODY, True),
    Why.SCHEDULING: Meaning("pending", Fixer.NOBODY, True),
    Why.PREPARING: Meaning("initializing", Fixer.NOBODY, True),
    Why.WEIGHTS: Meaning("initializing", Fixer.NOBODY, True),
    Why.LOADING: Meaning("initializing", Fixer.NOBODY, True),
    Why.RECREATING: Meaning("pending", Fixer.NOBODY, True),
    Why.UPDATING: Meaning("updating", Fixer.NOBODY, True),
    Why.STOPPING: Meaning("deleting", Fixer.NOBODY, True),
    Why.PAUSED: Meaning("paused", Fixer.YOU, False),
    Why.SCALED_TO_ZERO: Meaning("scaled_to_zero", Fixer.NOBODY, True),
    Why.NO_CAPACITY: Meaning("pending", Fixer.PROVIDER, True),
    Why.NO_SUCH_NODE: Meaning("pending", Fixer.PROVIDER, True),
    Why.NO_VOLUME: Meaning("pending", Fixer.PROVIDER, True),
    Why.QUOTA: Meaning("pending", Fixer.YOU, True),
    Why.IMAGE_NOT_FOUND: Meaning("initializing", Fixer.PROVIDER, False),
    Why.IMAGE_FORBIDDEN: Meaning("initializing", Fixer.PROVIDER, False),
    Why.IMAGE_INVALID: Meaning("failed", Fixer.PROVIDER, False),
    Why.REGISTRY_UNREACHABLE: Meaning("initializing", Fixer.UPSTREAM, True),
    Why.IMAGE_UNAVAILABLE: Meaning("initializing", Fixer.PROVIDER, True),
    Why.WEIGHTS_MISSING: Meaning("failed", Fixer.PROVIDER, False),
    Why.WEIGHTS_CORRUPT: Meaning("failed", Fixer.PROVIDER, False),
    Why.WEIGHTS_NO_SPACE: Meaning("initializing", Fixer.PROVIDER, True),
    Why.BAD_INPUT: Meaning("failed", Fixer.YOU, False),
    Why.BAD_CONFIGURATION: Meaning("failed", Fixer.PROVIDER, False),
    Why.OUT_OF_MEMORY: Meaning("initializing", Fixer.YOU, False),
    Why.CRASHED: Meaning("initializing", Fixer.PROVIDER, True),
    Why.KILLED: Meaning("initializing", Fixer.PROVIDER, True),
    Why.INTERRUPTED: Meaning("initializing", Fixer.PROVIDER, True),
    Why.ENDED: Meaning("initializing", Fixer.PROVIDER, True),
    Why.TOO_SLOW: Meaning("failed", Fixer.PROVIDER, True),
    Why.NOT_READY: Meaning("initializing", Fixer.PROVIDER, True),
    Why.NODE_LOST: Meaning("initializing", Fixer.PROVIDER, True),
    Why.EVICTED: Meaning("pending", Fixer.PROVIDER, True),
    Why.REJECTED: Meaning("failed", Fixer.PROVIDER, False),
    Why.FORBIDDEN: Meaning("pending", Fixer.PROVIDER, False),
    Why.CLUSTER_UNREACHABLE: Meaning("pending", Fixer.PROVIDER, True),
    Why.CLUSTER_MISCONFIGURED: Meaning("pending", Fixer.PROVIDER, False),
    Why.CONFLICT: Meaning("pending", Fixer.PROVIDER, True),
    Why.DELETION_STUCK: Meaning("deleting", Fixer.PROVIDER, True),
    Why.INTERNAL: Meaning("pending", Fixer.PROVIDER, True),
    Why.UNKNOWN: Meaning("pending", Fixer.PROVIDER, True),
}

_BY_END = {
    TerminationReason.COMPLETED: Why.ENDED,
    TerminationReason.STOP_REQUESTED: Why.STOPPING,
    TerminationReason.INTERRUPTED: Why.INTERRUPTED,
    TerminationReason.BAD_INPUT: Why.BAD_INPUT,
    TerminationReason.WEIGHTS_MISSING: Why.WEIGHTS_MISSING,
    TerminationReason.WEIGHTS_CORRUPT: Why.WEIGHTS_CORRUPT,
    TerminationReason.WEIGHTS_NO_SPACE: Why.WEIGHTS_NO_SPACE,
    TerminationReason.BAD_CONFIGURATION: Why.BAD_CONFIGURATION,
    TerminationReason.OUT_OF_MEMORY: Why.OUT_OF_MEMORY,
    TerminationReason.INTERNAL_ERROR: Why.CRASHED,
    TerminationReason.CRASHED: Why.CRASHED,
    TerminationReason.KILLED: Why.KILLED,
    TerminationReason.EVICTED: Why.EVICTED,
    TerminationReason.NODE_LOST: Why.NODE_LOST,
    TerminationReason.NEVER_STARTED: Why.ENDED,
    TerminationReason.VANISHED: Why.NODE_LOST,
}
_BY_WORD = {
    **{reason.value: why for reason, why in _BY_END.items()},
    **{why.value: why for why in Why},
    "Starting": Why.CREATING,
    "Loading": Why.LOADING,
    "Weights": Why.WEIGHTS,
    "Unschedulable": Why.NO_CAPACITY,
    "InvalidImageName": Why.IMAGE_INVALID,
    "ErrImageNeverPull": Why.IMAGE_INVALID,
    "CreateContainerConfigError": Why.BAD_CONFIGURATION,
    "CreateContainerError": Why.BAD_CONFIGURATION,
    "RunContainerError": Why.BAD_CONFIGURATION,
    "RegistryUnavailable": Why.REGISTRY_UNREACHABLE,
    "Unreachable": Why.CLUSTER_UNREACHABLE,
    "ClusterError": Why.CLUSTER_UNREACHABLE,
    "Misconfigured": Why.CLUSTER_MISCONFIGURED,
    "InternalError": Why.INTERNAL,
    "ForeignFinalizer": Why.DELETION_STUCK,
    "PodDoesNotEnd": Why.DELETION_STUCK,
    "ObjectDoesNotGo": Why.DELETION_STUCK,
    "Canary": Why.UPDATING,
    "Serving": Why.UPDATING,
    "Cancelled": Why.STOPPING,
    "Deleting": Why.STOPPING,
    "Deleted": Why.STOPPING,
}
"""Reasons of conditions, which are words of pods, of our problems or of the rollout."""

_IMAGE_WORDS = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError")
_IMAGE_SIGNS = (
    (Why.IMAGE_FORBIDDEN, r"unauthorized|authentication required|access denied|forbidden|no basic auth"),
    (Why.IMAGE_FORBIDDEN, r"\b40[13]\b"),
    (Why.REGISTRY_UNREACHABLE, r"timeout|timed out|connection refused|connection reset|no such host|tls"),
    (Why.REGISTRY_UNREACHABLE, r"deadline exceeded|unreachable|toomanyrequests|\b(?:429|50[0234])\b|\beof\b"),
    (Why.IMAGE_NOT_FOUND, r"not found|manifest unknown|name unknown|does not exist|no such|unknown image"),
)
"""What container runtimes and registries write when an image cannot be pulled; the first that fits counts."""

TEXTS = {
    Why.NO_CAPACITY: "It starts by itself as soon as there is room.",
    Why.NO_SUCH_NODE: "No node of the cluster is of the kind that was chosen.",
    Why.IMAGE_NOT_FOUND: "The registry does not have the image. This is ours to mend.",
    Why.IMAGE_FORBIDDEN: "The registry does not let us read the image. This is ours to mend.",
    Why.REGISTRY_UNREACHABLE: "The registry of the image does not answer. We try again.",
    Why.QUOTA: "Your quota does not allow more at once. Pause or delete something, or ask for more.",
}
"""What is added to the cluster's own sentence."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """One quantity that decides. None = not known, or no limit."""

    name: str
    """Kubernetes' resource name, or `nodes`."""
    unit: str
    """cores, bytes, devices or nodes."""
    need: float | None = None
    free: float | None = None
    """The most that any one node has left."""
    quota: float | None = None
    short_nodes: int | None = None
    """Nodes that have too little."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a workload does not run, without what only the moment of asking knows."""

    why: Why
    message: str
    numbers: tuple[Number, ...] = ()
    attempts: int = 0
    """How often it was started so far."""

    def to_json(self, *, since: datetime) -> dict[str, Any]:
        meaning = MEANINGS[self.why]
        return {
            "reason": self.why.value,
            "state": meaning.state,
            "who": meaning.who.value,
            "retry_helps": meaning.retry,
            "message": self.message,
            "numbers": [asdict(number) for number in self.numbers],
            "since": since.isoformat(),
            "attempts": self.attempts,
        }


def explain(
    *,
    reason: str,
    message: str,
    pods: Iterable[ObservedPod] = (),
    objects: Iterable[ObservedObject] = (),
    need: Mapping[str, float] | None = None,
) -> Explanation:
    """The explanation for a condition that does not hold, with what the cluster shows of the workload.

    `need` is what one pod asks for: resource name -> cores, bytes or devices.
    """
    pods = [pod for pod in pods if waiting_for(pod) is not None]
    attempts = max((pod.restarts + 1 for pod in pods if pod.started_at), default=0)
    why = _BY_WORD.get(reason, Why.UNKNOWN)
    pod = next((pod for pod in pods if pod.reason == reason), None)
    if reason in _IMAGE_WORDS:
        why = _image(pod.message if pod else message)
    numbers: tuple[Number, ...] = ()
    if reason == "Unschedulable":
        verdict = read_verdict(pod.message if pod else message)
        if verdict is not None:
            why, numbers = _no_place(verdict), _shortages(verdict, need or {})
    if why in (Why.CREATING, Why.SCHEDULING) and not pods and (refusal := _refusal(objects)):
        message = f"The cluster does not create the replicas: {refusal}"
        excess = read_quota(refusal)
        why = Why.QUOTA if excess else Why.REJECTED
        numbers = tuple(map(_of_quota, excess))
    text = TEXTS.get(why, "")
    return Explanation(
        why=why,
        message=message if text in message else f"{message} {text}",
        numbers=numbers,
        attempts=attempts,
    )


def explanation_json(
    explanation: Explanation | None, *, before: Mapping[str, Any] | None, now: datetime
) -> dict[str, Any] | None:
    """As it is stored: `since` stays as long as the reason does."""
    if explanation is None:
        return None
    known = before if before and before.get("reason") == explanation.why.value else None
    since = datetime.fromisoformat(known["since"]) if known else now
    return explanation.to_json(since=since)


def _image(message: str) -> Why:
    for why, sign in _IMAGE_SIGNS:
        if re.search(sign, message, re.IGNORECASE):
            return why
    return Why.IMAGE_UNAVAILABLE


def _no_place(verdict: Verdict) -> Why:
    if verdict.lacks_volume:
        return Why.NO_VOLUME
    return Why.NO_CAPACITY if verdict.short or verdict.closed else Why.NO_SUCH_NODE


def _shortages(verdict: Verdict, need: Mapping[str, float]) -> tuple[Number, ...]:
    return (
        Number(name="nodes", unit="nodes", need=1, free=0, short_nodes=verdict.nodes),
        *(
            Number(name=name, unit=unit_of(name), need=need.get(name), short_nodes=count)
            for name, count in verdict.short.items()
        ),
    )


def _refusal(objects: Iterable[ObservedObject]) -> str:
    """What the cluster's controllers say of replicas that they may not create."""
    for item in objects:
        for condition in item.status.get("conditions") or ():
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                return str(condition.get("message") or condition.get("reason") or "")
    return ""


def _of_quota(excess: QuotaExcess) -> Number:
    def amount(text: str) -> float | None:
        try:
            return float(parse(text))
        except ValueError:
            return None

    need, used, limit = amount(excess.requested), amount(excess.used), amount(excess.limited)
    free = None if used is None or limit is None else max(0.0, limit - used)
    return Number(name=excess.resource, unit=unit_of(excess.resource), need=need, free=free, quota=limit)


def unit_of(resource: str) -> str:
    """The unit that amounts of a resource are told in."""
    return {"cpu": "cores", "memory": "bytes", "pods": "pods", "nodes": "nodes"}.get(resource, "devices")
