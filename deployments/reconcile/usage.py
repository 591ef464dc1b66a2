"""Turns the facts of a replica into stretches of its life, each with a phase and with who pays. Pure.

The stretches of a replica tile the time from the start of its container to its end: no gap, no overlap.

- Serving: starting is the provider's, until the model has answered for the first time. From then on the
  customer's as long as it answers, until the replica ends or is asked to stop. Outages in between are the
  provider's, unless the customer's own settings ended the container.
- Training: the customer's, unless the run ended by the provider's fault; then none of it is.
- What follows a request to stop is never the customer's, nor is a pause that nobody could carry out before
  it was over.
- Nor is what follows the last moment at which a replica that vanished is known to have been there, or to have
  been as ready as is recorded: nobody knows when that ended, and not to have looked is no fault of the
  customer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.termination import Payer, who_pays
from marketplace.billing.metering import Stretch, clip


class Phase(StrEnum):
    """Values of `marketplace.billing.models.UsagePhase`."""

    STARTING = "starting"
    SERVING = "serving"
    OUTAGE = "outage"
    TRAINING = "training"


def serving_stretches(
    replica: ReplicaFacts,
    *,
    until: datetime | None = None,
    pauses: Iterable[tuple[datetime, datetime]] = (),
) -> list[Stretch]:
    """The life of a replica of a deployment, to its end or, while it lives, to `until`.

    `pauses`: from when to when the customer wanted nothing to run, as far as it ran all the same.
    """
    span = _span(replica, until=until)
    if span is None:
        return []
    start, end = span
    ready = end if replica.ready_at is None else _within(replica.ready_at, start, end)
    stop = _end_of_service(replica, end)
    if _vanished(replica) and replica.ready_seen_at is not None:
        # Its readiness was seen to have changed, and it was gone before anybody could write down how.
        stop = min(stop, replica.ready_seen_at)
    stop = _within(stop, ready, end)
    return _not_empty(
        Stretch(Phase.STARTING, Payer.PROVIDER, start, ready),
        *_unpaid(_service(replica, ready, stop), pauses),
        Stretch(Phase.SERVING, Payer.PROVIDER, stop, end),
    )


def _service(replica: ReplicaFacts, start: datetime, end: datetime) -> list[Stretch]:
    """The time between the first answer and the request to stop, outages told apart."""
    found = []
    for outage in replica.outages:
        begin = _within(outage.start, start, end)
        found.append(Stretch(Phase.SERVING, Payer.CUSTOMER, start, begin))
        start = _within(outage.end or end, begin, end)
        found.append(Stretch(Phase.OUTAGE, outage.payer, begin, start))
    return [*found, Stretch(Phase.SERVING, Payer.CUSTOMER, start, end)]


def _unpaid(stretches: list[Stretch], pauses: Iterable[tuple[datetime, datetime]]) -> list[Stretch]:
    """What the customer would pay, with each pause cut out of it as the provider's."""
    for begin, over in pauses:
        parts = []
        for it in stretches:
            if it.cause == Payer.PROVIDER:
                parts.append(it)
                continue
            start = _within(begin, it.start, it.end)
            end = _within(over, start, it.end)
            parts += [
                replace(it, end=start),
                replace(it, cause=Payer.PROVIDER, start=start, end=end),
                replace(it, start=end),
            ]
        stretches = parts
    return stretches


def training_stretches(replica: ReplicaFacts, *, until: datetime | None = None) -> list[Stretch]:
    """The life of a replica of a fine-tuning job, to its end or, while it lives, to `until`."""
    span = _span(replica, until=until)
    if span is None:
        return []
    start, end = span
    if replica.termination is not None and who_pays(replica.termination) is Payer.PROVIDER:
        return _not_empty(Stretch(Phase.TRAINING, Payer.PROVIDER, start, end))
    stop = _within(_end_of_service(replica, end), start, end)
    return _not_empty(
        Stretch(Phase.TRAINING, Payer.CUSTOMER, start, stop),
        Stretch(Phase.TRAINING, Payer.PROVIDER, stop, end),
    )


def unrecorded(stretches: Sequence[Stretch], *, recorded: Sequence[Stretch]) -> list[Stretch]:
    """The part of a replica's life that follows what the ledger holds of it.

    What was recorded stays as it was, also when later facts would have told it differently.
    """
    return clip(stretches, start=max((stretch.end for stretch in recorded), default=None), end=None)


def _span(replica: ReplicaFacts, *, until: datetime | None) -> tuple[datetime, datetime] | None:
    """From the start of the container to its end; None if it has not started or `until` is needed."""
    end = replica.ended_at or until
    if replica.started_at is None or end is None:
        return None
    # Nodes and API servers have clocks of their own, which may disagree by a little.
    return replica.started_at, max(replica.started_at, end)


def _end_of_service(replica: ReplicaFacts, end: datetime) -> datetime:
    """From when on nothing is the customer's, whatever the phase."""
    service = end if replica.stop_requested_at is None else replica.stop_requested_at
    if _vanished(replica):
        service = min(service, replica.last_seen_at or replica.created_at)
    return service


def _vanished(replica: ReplicaFacts) -> bool:
    return replica.finished_at is None and replica.vanished_at is not None


def _within(moment: datetime, start: datetime, end: datetime) -> datetime:
    return min(max(moment, start), end)


def _not_empty(*stretches: Stretch) -> list[Stretch]:
    return [stretch for stretch in stretches if stretch.start < stretch.end]
