"""When a replica that had answered did not: found from what pods say of their readiness. Pure.

A pod says only whether it is ready now and since when. From one look to the next that makes:

- ready, then not: an outage from the moment that the cluster names, open until the pod is ready again;
- not ready, then ready: the open outage ends at the moment that the cluster names;
- ready, and ready again since later: it was away in between. Nobody saw when that began, so it began when it
  was last known to be ready, or when its container ended if that is known to have been earlier. The benefit
  of the doubt is the customer's. So it is when a later run of the container has ended: that it was away
  between the two runs is known, and not from when to when.

An answer that tells of a change already known to be overtaken came late, and is passed over. Else what is
seen last is believed, whatever its clock says, and a moment before the last known change counts as that
change: so clocks that disagree can shift an outage, but neither lose a moment of a life nor count it twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from deployments.reconcile.termination import Payer, TerminationReason, who_pays_outage

NOT_READY = "NotReady"
"""The container runs, and its probe says no."""
MOST_OUTAGES = 100
"""Remembered of one replica. Of more, the two that are closest become one, with the time between them."""


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A stretch of a replica's life in which it did not answer. Times are timezone-aware."""

    start: datetime
    end: datetime | None = None
    """Not part of it; None while it lasts."""
    reason: str = NOT_READY
    """A TerminationReason value, or NOT_READY."""

    @property
    def payer(self) -> Payer:
        """Who pays for it."""
        if self.reason == NOT_READY:
            return Payer.PROVIDER
        return who_pays_outage(TerminationReason(self.reason))

    def to_json(self) -> dict[str, Any]:
        end = self.end.isoformat() if self.end else None
        return {"start": self.start.isoformat(), "end": end, "reason": self.reason}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            start=datetime.fromisoformat(value["start"]),
            end=datetime.fromisoformat(value["end"]) if value["end"] else None,
            reason=value["reason"],
        )


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """What is known of a replica's readiness since it was ready for the first time."""

    ready_at: datetime
    """The first time."""
    changed_at: datetime
    """When it changed last, as far as is known. Never moves back."""
    outages: tuple[Outage, ...] = ()
    """Oldest first, without overlaps; only the last can be open."""

    @property
    def open(self) -> Outage | None:
        return self.outages[-1] if self.outages and self.outages[-1].end is None else None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one observation says of a pod that has been ready before, or is now."""

    ready: bool
    changed_at: datetime
    """When `ready` changed last."""
    known_until: datetime | None
    """Until when the pod is known to have been as it was recorded; None = not beyond that moment."""
    ended_at: datetime | None = None
    """When the newest run of its container that ended did so."""
    began_at: datetime | None = None
    """When that run had begun."""
    over_at: datetime | None = None
    """From when on it was asked to stop, or had ended: what follows is no outage."""
    reason: str = NOT_READY


def first_readiness(ready_at: datetime) -> Readiness:
    """Of a replica that is ready for the first time."""
    return Readiness(ready_at=ready_at, changed_at=ready_at)


def followed(before: Readiness, look: Look) -> Readiness:
    """What is known once `look` was taken. The same look again changes nothing."""
    if _came_late(before, look):
        return before
    changed_at = max(before.changed_at, look.changed_at)
    lasting = before.open
    if lasting is not None:
        if look.ready:
            end = max(lasting.start, look.changed_at)
            return _known(
                before, replace(lasting, end=end), earlier=before.outages[:-1], at=max(changed_at, end)
            )
        refined = replace(lasting, reason=look.reason) if lasting.reason == NOT_READY else lasting
        return _known(before, refined, earlier=before.outages[:-1], at=changed_at)
    # A pod that goes away is not ready from then on, also when its readiness itself has not changed.
    if changed_at == before.changed_at and (look.ready or look.over_at is not None):
        return before
    start = _start(before, look, changed_at)
    if look.ready:
        missed = Outage(start=start, end=changed_at, reason=look.reason)
        return _known(before, missed, earlier=before.outages, at=changed_at)
    if look.over_at is not None and start >= look.over_at:
        return replace(before, changed_at=changed_at)
    begun = Outage(start=start, reason=look.reason)
    return _known(before, begun, earlier=before.outages, at=max(changed_at, start))


def _came_late(before: Readiness, look: Look) -> bool:
    """Whether the look tells of a change that is known to be overtaken by another."""
    if not before.outages:
        return False
    if before.open is None:
        return not look.ready and look.changed_at <= before.outages[-1].start
    previous = (before.outages[-2].end if len(before.outages) > 1 else None) or before.ready_at
    return look.ready and look.changed_at <= previous < before.open.start


def _start(before: Readiness, look: Look, changed_at: datetime) -> datetime:
    """From when on a replica that was ready is not known to have been."""
    start = changed_at
    # A run that began later than the pod was known to be ready is not the one that was.
    if look.ready or (look.began_at is not None and look.began_at > before.changed_at):
        start = min(max(look.known_until or before.changed_at, before.changed_at), changed_at)
    if look.ended_at is not None and before.changed_at < look.ended_at < start:
        start = look.ended_at
    return start


def _known(before: Readiness, last: Outage, *, earlier: Sequence[Outage], at: datetime) -> Readiness:
    outages = [*earlier, last] if last.end is None or last.start < last.end else earlier
    return replace(before, changed_at=at, outages=compacted(outages))


def compacted(outages: Iterable[Outage], *, most: int = MOST_OUTAGES) -> tuple[Outage, ...]:
    """At most so many outages: those that are closest become one, never at the customer's cost."""
    kept = list(outages)
    while len(kept) > most:
        _, index = min(
            (later.start - earlier.end, index)
            for index, (earlier, later) in enumerate(zip(kept, kept[1:], strict=False))
            if earlier.end is not None
        )
        pair = kept[index : index + 2]
        reason = next((it.reason for it in pair if it.payer is Payer.PROVIDER), pair[0].reason)
        kept[index : index + 2] = [Outage(start=pair[0].start, end=pair[1].end, reason=reason)]
    return tuple(kept)
