"""The facts of one replica, and how an observation adds to them. Pure.

Facts only grow: a first start stays the first start, also when the cluster later forgets it. What is derived
from them (status, usage) can therefore be derived again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from deployments.clusters.port import ObservedPod
from deployments.reconcile.outages import NOT_READY, Look, Outage, Readiness, first_readiness, followed
from deployments.reconcile.termination import TerminationReason, termination_reason
from deployments.reconcile.waiting import LOST_WORDS


@dataclass(frozen=True, kw_only=True)
class ReplicaFacts:
    """A pod as it is recorded: the columns of `serving.models.Replica`. Times are timezone-aware."""

    uid: str
    name: str
    revision: int | None
    phase: str
    created_at: datetime
    node: str = ""
    address: str = ""
    ready: bool = False
    scheduled_at: datetime | None = None
    image_pulled_at: datetime | None = None
    weights_done_at: datetime | None = None
    started_at: datetime | None = None
    ready_at: datetime | None = None
    ready_changed_at: datetime | None = None
    """When it changed last from ready to not ready or back."""
    ready_seen_at: datetime | None = None
    """Of one whose readiness has changed: until when it is known to have been as recorded."""
    outages: tuple[Outage, ...] = ()
    """When it did not answer although it had before."""
    finished_at: datetime | None = None
    vanished_at: datetime | None = None
    last_seen_at: datetime | None = None
    """Of one that is missing: until when the cluster is known to have had it."""
    stop_requested_at: datetime | None = None
    restarts: int = 0
    exit_code: int | None = None
    last_end_at: datetime | None = None
    """When the newest run of its container that ended did so."""
    last_end_reason: str = ""
    reason: str = ""
    message: str = ""

    @property
    def answers(self) -> bool:
        """It has answered, and is not known to have stopped doing so."""
        return self.ready_at is not None and not (self.outages and self.outages[-1].end is None)

    @property
    def ended_at(self) -> datetime | None:
        """When its life ended; None while it may still run."""
        return self.finished_at or self.vanished_at

    @property
    def termination(self) -> TerminationReason | None:
        """Why it ended; None while it may still run."""
        if self.ended_at is None:
            return None
        stop = self.stop_requested_at
        return termination_reason(
            word=self.reason,
            exit_code=self.exit_code,
            started=self.started_at is not None,
            vanished=self.finished_at is None,
            stop_requested=stop is not None and stop <= self.ended_at,
        )


def observed_replica(
    pod: ObservedPod, *, before: ReplicaFacts | None = None, observed_at: datetime | None = None
) -> ReplicaFacts:
    """What is known of a replica once `pod` was seen.

    `before` is what was recorded of it, if anything; `observed_at` when its cluster was observed before this.
    """
    readiness = _readiness(pod, before=before, observed_at=observed_at)
    return ReplicaFacts(
        uid=pod.uid,
        name=_text(pod.name, 80),
        revision=pod.revision,
        phase=_text(pod.phase, 16),
        created_at=before.created_at if before else pod.created_at,
        node=_text(pod.node, 80),
        address=_text(pod.address, 80),
        # A pod on its way out may answer a little longer, but no request should be sent to it.
        ready=pod.ready and pod.deleting_since is None and pod.finished_at is None,
        scheduled_at=(before.scheduled_at if before else None) or pod.scheduled_at,
        started_at=(before.started_at if before else None) or pod.started_at,
        image_pulled_at=(before.image_pulled_at if before else None) or pod.image_pulled_at,
        weights_done_at=(before.weights_done_at if before else None) or pod.weights_done_at,
        ready_at=(before.ready_at if before else None) or pod.ready_at,
        ready_changed_at=readiness.changed_at if readiness else None,
        ready_seen_at=before.ready_seen_at if before and _readiness_of(before) == readiness else None,
        outages=readiness.outages if readiness else (),
        finished_at=(before.finished_at if before else None) or pod.finished_at,
        # No `vanished_at` and no `last_seen_at`: it was there after all.
        stop_requested_at=_earliest(before.stop_requested_at if before else None, pod.deleting_since),
        restarts=pod.restarts,
        exit_code=pod.exit_code,
        last_end_at=pod.last_end_at,
        last_end_reason=_text(pod.last_end_reason, 80),
        reason=_text(pod.reason, 80),
        message=_text(pod.message, 2000),
    )


def _readiness(
    pod: ObservedPod, *, before: ReplicaFacts | None, observed_at: datetime | None
) -> Readiness | None:
    """What is known of a replica's readiness; None as long as it has never been ready."""
    ready_at = (before.ready_at if before else None) or pod.ready_at
    if ready_at is None:
        return None
    known = _readiness_of(before) if before else None
    seen_at = None
    if before is not None and known is not None:
        seen_at = before.ready_seen_at or observed_at
    known = known or first_readiness(ready_at)
    if pod.ready_changed_at is None:  # an answer from before it was ready, which came late
        return known
    return followed(
        known,
        Look(
            ready=pod.ready,
            changed_at=pod.ready_changed_at,
            known_until=seen_at,
            ended_at=pod.last_end_at,
            began_at=pod.last_run_at,
            over_at=_earliest(
                pod.deleting_since, pod.finished_at, before.stop_requested_at if before else None
            ),
            reason=_outage_reason(pod, before=before),
        ),
    )


def _readiness_of(replica: ReplicaFacts) -> Readiness | None:
    """What is recorded of a replica's readiness; None if it was never ready."""
    if replica.ready_at is None:
        return None
    return Readiness(
        ready_at=replica.ready_at,
        changed_at=replica.ready_changed_at or replica.ready_at,
        outages=replica.outages,
    )


def _outage_reason(pod: ObservedPod, *, before: ReplicaFacts | None) -> str:
    """Why the replica does not answer, as far as this look tells."""
    restarted = pod.restarts > (before.restarts if before else 0)
    if not restarted and pod.reason not in LOST_WORDS:
        return NOT_READY
    word = pod.reason if not restarted else pod.last_end_reason or pod.reason
    return termination_reason(
        word=word, exit_code=pod.exit_code, started=True, vanished=False, stop_requested=False
    ).value


def vanished_replica(before: ReplicaFacts, *, at: datetime, observed_at: datetime | None) -> ReplicaFacts:
    """What is known of a replica that is gone without a reported end.

    `at`: when that was noticed; `observed_at`: when its cluster was last observed before that, if ever.
    """
    if before.ended_at is not None:
        return before
    vanished = max(at, before.created_at)
    seen = max(_proofs_of_life(before, observed_at=observed_at))
    return replace(before, vanished_at=vanished, last_seen_at=min(seen, vanished), ready=False)


def _proofs_of_life(replica: ReplicaFacts, *, observed_at: datetime | None) -> list[datetime]:
    # Each of its own facts was reported by an observation that still had it, a request to stop included. What
    # was set aside when it was first missing goes before what its cluster has been observed since.
    moments = (
        replica.created_at,
        replica.started_at,
        replica.ready_at,
        replica.stop_requested_at,
        replica.last_seen_at or observed_at,
    )
    return [moment for moment in moments if moment is not None]


def stopping_replica(before: ReplicaFacts, *, at: datetime) -> ReplicaFacts:
    """The replica was asked to stop at a moment; an earlier request stays."""
    return replace(before, stop_requested_at=_earliest(before.stop_requested_at, at))


def observed_replicas(
    pods: Iterable[ObservedPod],
    *,
    recorded: Mapping[str, ReplicaFacts],
    at: datetime,
    observed_at: datetime | None,
) -> list[ReplicaFacts]:
    """All that is known of the replicas in `recorded` (by uid) and `pods`, oldest first.

    `pods` are those of an observation at `at`; the cluster was observed before that at `observed_at`.
    """
    seen = {
        pod.uid: observed_replica(pod, before=recorded.get(pod.uid), observed_at=observed_at) for pod in pods
    }
    gone = [
        vanished_replica(facts, at=at, observed_at=observed_at)
        for uid, facts in recorded.items()
        if uid not in seen
    ]
    return sorted([*seen.values(), *gone], key=lambda facts: (facts.created_at, facts.uid))


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


def _text(value: str, length: int) -> str:
    """Fits the column, so that what is stored equals what is seen next. PostgreSQL takes no NUL."""
    return value.replace("\x00", "")[:length]
