"""How one revision takes the place of another: who answers, who runs, and when to give up. Pure.

- Rolling: the old revision serves until the new one is ready with all of its replicas, then goes.
- Recreate: the old one goes first, and the new one is created once nothing of the old is seen. For
  accelerators of which there are not enough for both.
- Canary: both serve side by side for as long as the customer wishes; the gateway splits the requests.

A new revision that cannot become ready is given up: at once when waiting cannot help, else at its deadline.
Its pods are taken away, so that they hold nothing and cost nothing, and the revision that served before goes
on or comes back. Giving up is final: what may work on a second try is tried as a revision with a new number.

Only an update is given up. The first revision has nothing to go back to, so it waits for as long as it takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from deployments.clusters.port import Observation, ObservedPod
from deployments.reconcile.conditions import Problem
from deployments.reconcile.waiting import longest_wait


class Wish(StrEnum):
    """Values of `deployments.serving.models.DesiredState`, but for deleted: that is `deletion`."""

    RUNNING = "running"
    PAUSED = "paused"


class Strategy(StrEnum):
    """Values of `deployments.serving.models.Strategy`."""

    ROLLING = "rolling"
    RECREATE = "recreate"


@dataclass(frozen=True, kw_only=True)
class Canary:
    """The revision aimed at answers a part of the requests, beside the stable one."""

    weight: int
    """Percent of the requests."""
    stable: int
    """Number of the revision that answers the rest."""


@dataclass(frozen=True, kw_only=True)
class ServingWish:
    """What the customer wants of a deployment."""

    desired: Wish
    replicas: int
    target: int
    """Number of the revision aimed at."""
    strategy: Strategy = Strategy.ROLLING
    canary: Canary | None = None
    patience: timedelta = timedelta(minutes=30)
    """How long the revision aimed at may make no progress."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a revision was given up."""

    reason: str
    """CamelCase."""
    message: str


@dataclass(frozen=True, kw_only=True)
class Before:
    """What is recorded of the rollout."""

    serving: int | None = None
    fallback: int | None = None
    """The last revision that has answered."""
    since: datetime | None = None
    """When the rollout at hand began, or was last changed."""
    failure: Failure | None = None
    """Of the revision aimed at, once it was given up."""
    has_shared: bool = False
    """The revision aimed at has answered requests as a canary: from then on it is late for nothing."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Where a rollout is, and what it wants of the cluster."""

    serving: int | None
    """Number of the revision that answers, also while it is down for a moment; None before the first."""
    fallback: int | None
    since: datetime | None
    """None while no update is under way."""
    failure: Failure | None
    replicas: Mapping[int, int] = field(default_factory=dict)
    """Revision -> pods that it should have now. Whatever is not in it goes."""
    answering: int | None = None
    """The revision that the cluster's own address leads to; None = none is wanted."""
    is_sharing: bool = False
    """The canary has all of its replicas ready."""

    @property
    def is_clearing(self) -> bool:
        """The old revision goes, and the new one has to wait for that."""
        return self.answering is not None and not self.replicas


def canary_replicas(replicas: int, *, weight: int) -> int:
    """Pods that a canary of `weight` percent gets beside `replicas` stable ones: its share, rounded up.

    The stable revision keeps all of its own, so that it can take everything back at any moment.
    """
    return max(1, math.ceil(replicas * weight / 100))


def decide_rollout(
    wish: ServingWish,
    *,
    before: Before,
    seen: Observation,
    now: datetime,
    problem: Problem | None = None,
    changed: bool = False,
) -> Rollout:
    """Which revision answers and which have pods.

    `problem` is what the last attempt to change the cluster ran into; `changed` says that the customer has
    changed the wish since the last look, which starts the patience anew.
    """
    if wish.desired is not Wish.RUNNING:
        return Rollout(
            serving=None if seen.is_empty else before.serving,
            fallback=before.fallback,
            since=None,
            failure=before.failure,
        )
    old = _old_revision(wish, before)
    since = now if changed or before.since is None else before.since
    failure = before.failure
    if old is None or before.serving == wish.target:
        failure = None
    elif failure is None:
        patient = before.has_shared and wish.canary is not None
        failure = _failure(wish, since=None if patient else since, seen=seen, now=now, problem=problem)
    serving = _serving(wish, old=old, before=before, failure=failure, seen=seen)
    under_way = old is not None and serving != wish.target and failure is None
    return Rollout(
        serving=serving,
        fallback=serving if serving is not None else before.fallback,
        since=since if under_way else None,
        failure=failure,
        replicas=_replicas(wish, old=old, serving=serving, failure=failure, seen=seen),
        answering=_answering(wish, old=old, serving=serving, failure=failure),
        is_sharing=under_way
        and wish.canary is not None
        and len(ready_of(seen, wish.target)) >= _needed(wish),
    )


def _old_revision(wish: ServingWish, before: Before) -> int | None:
    """The revision that serves, or would again, until the one aimed at does; None if there is none."""
    for number in (wish.canary.stable if wish.canary else None, before.serving, before.fallback):
        if number is not None:
            return number if number != wish.target else None
    return None


def _failure(
    wish: ServingWish, *, since: datetime | None, seen: Observation, now: datetime, problem: Problem | None
) -> Failure | None:
    """Why the revision aimed at has to be given up; None while there is hope. `since` None: no deadline."""
    if problem is not None and problem.is_final:
        return Failure(reason=problem.reason, message=problem.message)
    pods = pods_of(seen, wish.target)
    wait = longest_wait(pods)
    if wait.is_hopeless:
        return Failure(reason=wait.reason, message=wait.message)
    if since is None or len(ready_of(seen, wish.target)) >= _needed(wish):
        return None
    # Every further replica that has become ready is progress.
    progress = max([since, *(pod.ready_at for pod in pods if pod.ready_at is not None)])
    if now - progress < wish.patience:
        return None
    minutes = f"{wish.patience.total_seconds() / 60:g} minutes"
    return Failure(
        reason="ProgressDeadlineExceeded", message=f"It made no progress for {minutes}. {wait.message}"
    )


def _needed(wish: ServingWish) -> int:
    """Pods of the revision aimed at that have to be ready."""
    if wish.canary is not None:
        return canary_replicas(wish.replicas, weight=wish.canary.weight)
    return max(1, wish.replicas)


def _serving(
    wish: ServingWish, *, old: int | None, before: Before, failure: Failure | None, seen: Observation
) -> int | None:
    """Which revision answers.

    The one aimed at takes over once as many of its replicas are ready as are wanted, so that nobody notices
    the change. When there is nothing to take over from, or it does not answer either, the first ready replica
    is enough.
    """
    if old is not None and (failure is not None or wish.canary is not None):
        return old if before.serving == old or ready_of(seen, old) else before.serving
    answers = before.serving is not None and ready_of(seen, before.serving)
    needed = max(1, wish.replicas) if answers else 1
    return wish.target if len(ready_of(seen, wish.target)) >= needed else before.serving


def _replicas(
    wish: ServingWish, *, old: int | None, serving: int | None, failure: Failure | None, seen: Observation
) -> dict[int, int]:
    if old is None or serving == wish.target:
        return {wish.target: wish.replicas}
    if failure is not None:
        return {old: wish.replicas}
    if wish.canary is not None:
        return {
            old: wish.replicas,
            wish.target: canary_replicas(wish.replicas, weight=wish.canary.weight),
        }
    if wish.strategy is Strategy.RECREATE:
        # Also those on their way out: until they are gone they hold what the new ones need.
        others = [pod for pod in seen.pods if pod.revision != wish.target]
        return {} if others else {wish.target: wish.replicas}
    if serving is None:
        return {wish.target: wish.replicas}  # nothing runs that could be kept running
    return {old: wish.replicas, wish.target: wish.replicas}


def _answering(wish: ServingWish, *, old: int | None, serving: int | None, failure: Failure | None) -> int:
    if old is not None and (failure is not None or wish.canary is not None):
        return old
    return wish.target if serving is None else serving


def pods_of(seen: Observation, revision: int) -> list[ObservedPod]:
    """The revision's pods that are not on their way out."""
    return [pod for pod in seen.pods if pod.revision == revision and pod.deleting_since is None]


def ready_of(seen: Observation, revision: int) -> list[ObservedPod]:
    """Those of them that answer."""
    return [pod for pod in pods_of(seen, revision) if pod.ready]
