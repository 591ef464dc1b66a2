"""How a replica's facts change with one look, for both kinds of workload. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from deployments.clusters.port import ObservedPod
from deployments.reconcile.decision import Happening, ReplicaChange
from deployments.reconcile.replicas import ReplicaFacts, observed_replicas, stopping_replica
from deployments.reconcile.termination import TerminationReason, customer_text
from marketplace.billing.metering import Stretch

Stretches = Callable[..., list[Stretch]]
"""usage.serving_stretches or usage.training_stretches."""

QUIET = (TerminationReason.COMPLETED, TerminationReason.STOP_REQUESTED, TerminationReason.NEVER_STARTED)
"""Ends that are no news of their own: the state of the workload tells them."""


def replica_changes(
    pods: Iterable[ObservedPod],
    *,
    recorded: Mapping[str, ReplicaFacts],
    stop_at: Callable[[ReplicaFacts], datetime | None],
    stretches: Stretches,
    now: datetime,
    observed_at: datetime | None,
) -> tuple[ReplicaChange, ...]:
    """The replicas whose facts are new or different, oldest first.

    `stop_at` says since when a replica is asked to stop; None = it is wanted. `observed_at`: when their
    cluster was last observed before this.
    """
    pods = tuple(pods)
    going = {pod.uid for pod in pods if pod.deleting_since is not None}
    changes = []
    for facts in observed_replicas(pods, recorded=recorded, at=now, observed_at=observed_at):
        before = recorded.get(facts.uid)
        if before is not None and before.ended_at is not None and facts.ended_at is not None:
            continue  # its life is told
        change = _change(
            facts,
            before=before,
            stop=stop_at(facts),
            going=facts.uid in going,
            stretches=stretches,
            now=now,
        )
        if change.facts != before:
            changes.append(change)
    return tuple(changes)


def _change(
    facts: ReplicaFacts,
    *,
    before: ReplicaFacts | None,
    stop: datetime | None,
    going: bool,
    stretches: Stretches,
    now: datetime,
) -> ReplicaChange:
    if facts.ended_at is not None:
        ended = facts if stop is None else stopping_replica(facts, at=stop)
        return ReplicaChange(facts=ended, stretches=stretches(ended))
    if stop is not None:
        return ReplicaChange(facts=stopping_replica(facts, at=stop))
    if before is not None and before.stop_requested_at is not None and not going:
        # The customer changed their mind before it was stopped, and it goes on. What came between the request
        # and this moment is settled now, as not theirs to pay; the time from here on counts again.
        return ReplicaChange(
            facts=replace(facts, stop_requested_at=None), stretches=stretches(facts, until=now)
        )
    return ReplicaChange(facts=facts)


def endings(changes: Iterable[ReplicaChange]) -> tuple[Happening, ...]:
    """What the customer is told of replicas that ended without having been asked to."""
    happenings = []
    for change in changes:
        ended = change.facts.termination
        if ended is None or ended in QUIET:
            continue
        code = "" if change.facts.exit_code is None else f" (exit code {change.facts.exit_code})"
        happenings.append(
            Happening(
                reason=f"Replica{ended.value}",
                message=f"Replica {change.facts.name} ended{code}. {customer_text(ended)}",
            )
        )
    return tuple(happenings)
