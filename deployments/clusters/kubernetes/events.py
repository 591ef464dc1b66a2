"""Events as the port shows them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deployments.clusters.kubernetes.objects import time_of
from deployments.clusters.port import ObservedEvent

Json = Mapping[str, Any]


def observed_events(
    records: Iterable[Json], *, uids: frozenset[str], names: Iterable[str]
) -> list[ObservedEvent]:
    """Of the events of a namespace those about the objects with the uids, and about what they have made.

    What an object makes (ReplicaSets, pods) is named after it, also when it is gone already. Oldest first.
    """
    prefixes = tuple(f"{name}-" for name in names)
    exact = frozenset(names)
    found = [
        event
        for record in records
        if (about := record.get("involvedObject") or {})
        and (
            about.get("uid") in uids
            or about.get("name") in exact
            or str(about.get("name", "")).startswith(prefixes)
        )
        and (event := _event(record, about)) is not None
    ]
    return sorted(found, key=lambda event: event.at)


def _event(record: Json, about: Json) -> ObservedEvent | None:
    series = record.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        record.get("lastTimestamp"),
        record.get("eventTime"),
        record["metadata"].get("creationTimestamp"),
    )
    at = next((time for text in times if (time := time_of(text)) is not None), None)
    if at is None:
        return None
    return ObservedEvent(
        at=at,
        object=f"{about.get('kind', '')} {about.get('name', '')}",
        reason=record.get("reason") or "",
        message=record.get("message") or "",
        warning=record.get("type") == "Warning",
        count=int(series.get("count") or record.get("count") or 1),
    )
