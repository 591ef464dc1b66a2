"""How long a start takes, part by part, learnt from starts that were seen. Seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SeenStart:
    """The moments of one replica's first start, as its cluster reported them."""

    created_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    """When the container ran: image and weights are on the node."""
    ready_at: datetime
    node: str = ""


@dataclass(frozen=True, kw_only=True)
class StartTimes:
    """Medians of what was seen. A part is None as long as nothing is known of it."""

    queue: float | None = None
    """Until a node was chosen, while there was room."""
    preparing: float | None = None
    """Image and weights: from the choice of a node until the container ran."""
    loading: float | None = None
    """From the start of the container to the first answer."""
    total: float | None = None
    """Of whole starts: the median of sums, which need not be the sum of medians."""
    starts: int = 0
    """How many starts this was learnt from; 0: measured by the provider, or unknown."""


@dataclass(frozen=True, kw_only=True)
class Eta:
    """When the first answer comes, counted from the request, and what the time goes to."""

    seconds: float | None
    """None: nobody can tell."""
    queue: float | None
    provisioning: float | None
    """To get a node when none is free; 0 = one is free, None = more nodes cannot be had."""
    preparing: float | None
    loading: float | None
    source: str
    """What this is known from."""
    cached_nodes: int = 0
    """Nodes with room on which this version has started before, so that its weights may still lie there."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def learn(starts: Iterable[SeenStart], *, measured: float | None) -> StartTimes:
    """What earlier starts tell of the next one; without any, what the provider `measured`."""
    seen = list(starts)
    if not seen:
        return StartTimes(total=measured)
    return StartTimes(
        queue=_median((start.created_at, start.scheduled_at) for start in seen),
        preparing=_median((start.scheduled_at, start.started_at) for start in seen),
        loading=_median((start.started_at, start.ready_at) for start in seen),
        total=_median((start.created_at, start.ready_at) for start in seen),
        starts=len(seen),
    )


def expect(times: StartTimes, *, has_room: bool, provisioning: float, cached_nodes: int = 0) -> Eta:
    """The ETA of a start. `provisioning` is what a further node takes; 0 = none can be had."""
    known = has_room or provisioning > 0
    extra = 0.0 if has_room else provisioning if provisioning > 0 else None
    seconds = times.total + (extra or 0.0) if times.total is not None and known else None
    return Eta(
        seconds=seconds,
        queue=times.queue,
        provisioning=extra,
        preparing=times.preparing,
        loading=times.loading,
        source=_source(times, known=known),
        cached_nodes=cached_nodes,
    )


def _source(times: StartTimes, *, known: bool) -> str:
    if not known:
        return "No node is free and none can be added: it starts when others give their place back."
    if times.starts:
        count = "the last start" if times.starts == 1 else f"the last {times.starts} starts"
        return f"Median of {count} with this recipe."
    if times.total is not None:
        return "Measured by the provider; no start has been seen yet."
    return "It has never started here."


def _median(pairs: Iterable[tuple[datetime | None, datetime | None]]) -> float | None:
    seconds = [
        max(0.0, (end - begin).total_seconds())
        for begin, end in pairs
        if begin is not None and end is not None
    ]
    return median(seconds) if seconds else None
