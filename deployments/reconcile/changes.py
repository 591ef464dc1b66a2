"""How a replica's facts change with one look, for both kinds of workload. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from deployments.clusters.port import ObservedPod
from deployments.reconcile.decision import Happening, ReplicaChange
from deployments.reconcile.outages import NOT_READY, Outage
from deployments.reconcile.replicas import ReplicaFacts, observed_replicas, stopping_replica
from deployments.reconcile.termination import Payer, TerminationReason, customer_text
from marketplace.billing.metering import Stretch

Stretches = Callable[..., list[Stretch]]
"""usage.serving_stretches or usage.training_stretches."""

QUIET = (TerminationReason.COMPLETED, TerminationReason.STOP_REQUESTED, TerminationReason.NEVER_STARTED)
"""Ends that are no news of their own: the state of the workload tells them."""
QUIET_AFTER_OUTAGE = timedelta(minutes=1)
"""An outage that begins so soon after another is told with neither."""


def replica_changes(
    pods: Iterable[ObservedPod],
    *,
    recorded: Mapping[str, ReplicaFacts],
    stop_at: Callable[[ReplicaFacts], datetime | None],
    stretches: Stretches,
    now: datetime,
    observed_at: datetime | None,
    pauses: Iterable[tuple[datetime, datetime]] = (),
) -> tuple[ReplicaChange, ...]:
    """The replicas whose facts are new or different, oldest first.

    `stop_at` says since when a replica is asked to stop; None = it is wanted. `observed_at`: when their
    cluster was last observed before this. `pauses`: from when to when the customer wanted nothing to run, of
    pauses that were over before that could be seen.
    """
    resumed = dict(pauses)
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
            resumed=resumed,
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
    resumed: Mapping[datetime, datetime],
    now: datetime,
) -> ReplicaChange:
    if facts.ended_at is not None:
        ended = facts if stop is None else stopping_replica(facts, at=stop)
        return ReplicaChange(facts=ended, before=before, stretches=stretches(ended))
    if stop is not None:
        return ReplicaChange(facts=stopping_replica(facts, at=stop), before=before)
    if before is not None and before.stop_requested_at is not None and not going:
        # The customer changed their mind before it was stopped, and it goes on. What came between the request
        # and that is settled now, as not theirs to pay; the time from there on counts again.
        return ReplicaChange(
            facts=replace(facts, stop_requested_at=None),
            before=before,
            stretches=stretches(facts, until=resumed.get(before.stop_requested_at, now)),
        )
    return ReplicaChange(facts=facts, before=before)


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


def outage_news(changes: Iterable[ReplicaChange]) -> tuple[Happening, ...]:
    """What the customer is told of replicas that stopped to answer, or answer again.

    Of a replica that comes and goes in quick succession only the first time is told.
    """
    happenings = []
    for change in changes:
        facts, before = change.facts, change.before
        known = before.outages if before else ()
        if facts.stop_requested_at is not None or facts.ended_at is not None or facts.outages == known:
            continue
        for earlier, outage in pairwise((None, *facts.outages)):
            if outage is None or outage in known or (earlier and _is_soon(earlier, outage)):
                continue
            was_told = bool(known) and known[-1].start == outage.start
            happenings += _told(facts, outage, was_told=was_told)
    return tuple(happenings)


def _is_soon(earlier: Outage, later: Outage) -> bool:
    return earlier.end is not None and later.start - earlier.end < QUIET_AFTER_OUTAGE


def _told(facts: ReplicaFacts, outage: Outage, *, was_told: bool) -> list[Happening]:
    why = "" if outage.reason == NOT_READY else " " + customer_text(TerminationReason(outage.reason))
    since = f"{outage.start:%H:%M:%S} UTC"
    free = " This time is not billed." if outage.payer is Payer.PROVIDER else ""
    if outage.end is None:
        if was_told and not why:
            return []
        message = f"Replica {facts.name} does not answer since {since}.{why}{free}"
        return [Happening(reason=f"Replica{outage.reason}", message=message)]
    seconds = (outage.end - outage.start).total_seconds()
    if was_told:
        message = f"Replica {facts.name} answers again after {seconds:.0f} s.{free}"
    else:
        message = f"Replica {facts.name} did not answer for {seconds:.0f} s from {since}.{why}{free}"
    return [Happening(reason="ReplicaReadyAgain", message=message)]
