"""Replicas that died unexpectedly, and what is kept of each: a post-mortem that outlives pod and workload.

Finding deaths is pure. Gathering what the cluster still has of one asks the cluster, outside of transactions,
and never fails: a post-mortem without its last lines is better than a row that does not go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from deployments.clusters.errors import ClusterError
from deployments.clusters.port import Cluster, ObservedEvent
from deployments.reconcile.decision import ReplicaChange
from deployments.reconcile.problems import incident_of
from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.signatures import Signature, recognize
from deployments.reconcile.termination import TerminationReason, termination_reason
from runtimes.contract import WEIGHTS_CONTAINER

log = logging.getLogger(__name__)

MOST_LINES = 50
LONGEST_LINE = 500
"""Characters."""
MOST_EVENTS = 20
MOST_AT_ONCE = 4
"""Deaths of one look that are gone into: a node that is lost may take many with it."""

EXPECTED = (
    TerminationReason.COMPLETED,
    TerminationReason.STOP_REQUESTED,
    TerminationReason.INTERRUPTED,
    TerminationReason.NEVER_STARTED,
)
"""Ends of pods that need no explanation."""
_IN_WEIGHTS = (
    TerminationReason.WEIGHTS_MISSING,
    TerminationReason.WEIGHTS_CORRUPT,
    TerminationReason.WEIGHTS_NO_SPACE,
)


@dataclass(frozen=True, kw_only=True)
class Death:
    """One run of a replica's container that ended, or its pod's end."""

    replica: ReplicaFacts
    attempt: int
    """Which run of the container it was, from 1."""
    reason: TerminationReason
    at: datetime | None
    """None when the cluster does not say."""


@dataclass(frozen=True, kw_only=True)
class Autopsy:
    """A death, and what was found of it."""

    death: Death
    lines: tuple[str, ...] = ()
    """The last ones that it wrote, oldest first."""
    events: tuple[ObservedEvent, ...] = ()
    signature: Signature | None = None
    missing: tuple[str, ...] = field(default=())
    """What the cluster did not tell, and why."""


def deaths_in(changes: Iterable[ReplicaChange]) -> tuple[Death, ...]:
    """The deaths that a look has found, each once: those that were not known before it."""
    deaths = []
    for change in changes:
        facts, before = change.facts, change.before
        ended = facts.termination
        if ended is not None:
            if (before is None or before.ended_at is None) and ended not in EXPECTED:
                attempt = facts.restarts + 1
                deaths.append(Death(replica=facts, attempt=attempt, reason=ended, at=facts.ended_at))
        elif facts.restarts > (before.restarts if before else 0) and facts.stop_requested_at is None:
            reason = termination_reason(
                word=facts.last_end_reason or facts.reason,
                exit_code=facts.exit_code,
                started=True,
                vanished=False,
                stop_requested=False,
            )
            deaths.append(Death(replica=facts, attempt=facts.restarts, reason=reason, at=facts.last_end_at))
    return tuple(deaths)


def examine(
    deaths: Sequence[Death],
    *,
    resource: str,
    namespaces: Collection[str],
    cluster: Cluster,
    renew: Callable[[], object],
) -> tuple[Autopsy, ...]:
    """What the cluster still has of the deaths. Renews the lease on the way.

    `namespaces` are those of the resource.
    """
    if not deaths:
        return ()
    renew()
    events, why_no_events = _events(resource, namespaces, cluster)
    found = []
    for death in deaths[:MOST_AT_ONCE]:
        renew()
        lines, why_no_lines = _lines(death, resource, namespaces, cluster)
        own = [event for event in events if event.object.endswith(f" {death.replica.name}")][-MOST_EVENTS:]
        told = [*lines, death.replica.message, *(f"{event.reason} {event.message}" for event in own)]
        found.append(
            Autopsy(
                death=death,
                lines=lines,
                events=tuple(own),
                signature=recognize(end=death.reason, lines=told),
                missing=tuple(why for why in (why_no_lines, why_no_events) if why),
            )
        )
    return tuple(found)


def _lines(
    death: Death, resource: str, namespaces: Collection[str], cluster: Cluster
) -> tuple[tuple[str, ...], str]:
    container = WEIGHTS_CONTAINER if death.reason in _IN_WEIGHTS else ""
    try:
        found = cluster.logs(
            resource,
            namespaces=namespaces,
            pod=death.replica.uid,
            container=container,
            limit=MOST_LINES,
            tail=True,
        )
    except ClusterError as error:
        incident = incident_of(error)
        log.warning(
            "%s: the last lines of %s are lost, incident %s: %s",
            resource,
            death.replica.name,
            incident,
            error,
        )
        return (), f"The log could not be read. (incident {incident})"
    return tuple(line.text.replace("\x00", "")[:LONGEST_LINE] for line in found), ""


def _events(resource: str, namespaces: Collection[str], cluster: Cluster) -> tuple[list[ObservedEvent], str]:
    try:
        return cluster.events(resource, namespaces=namespaces), ""
    except ClusterError as error:
        incident = incident_of(error)
        log.warning("%s: the cluster's events are lost, incident %s: %s", resource, incident, error)
        return [], f"The cluster's events could not be read. (incident {incident})"
