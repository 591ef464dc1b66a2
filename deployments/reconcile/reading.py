"""Reads what training runs report on their output, from where the last look had stopped.

A line is read by its number, so reading twice finds the same events, and recording them twice records them
once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deployments.clusters.port import Cluster, Observation
from deployments.reconcile.decision import TrainingRecord
from runtimes.contract import TrainingEventType, parse_event

LINES_PER_CALL = 1000
CALLS_PER_LOOK = 20
"""A look is short. What is left is read by the next."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the logs of a job's replicas hold beyond a position."""

    records: tuple[TrainingRecord, ...]
    replica: str
    """uid of the replica that was read last."""
    position: int
    """Its last line that was read."""
    is_complete: bool
    """Everything that the replicas have written so far was read."""


def read_logs(resource: str, seen: Observation, *, replica: str, position: int, cluster: Cluster) -> Reading:
    """Reads on after line `position` of `replica`, then through the replicas that were created after it."""
    pods = sorted((pod for pod in seen.pods if pod.started_at), key=lambda pod: (pod.created_at, pod.uid))
    uids = [pod.uid for pod in pods]
    namespaces = {pod.namespace for pod in pods}
    if replica in uids:
        uids = uids[uids.index(replica) :]
    records: list[TrainingRecord] = []
    calls = 0
    for uid in uids:
        if uid != replica:
            replica, position = uid, 0
        while True:
            if calls == CALLS_PER_LOOK:
                return Reading(records=tuple(records), replica=replica, position=position, is_complete=False)
            calls += 1
            lines = cluster.logs(
                resource, namespaces=namespaces, pod=uid, after=position, limit=LINES_PER_CALL
            )
            for line in lines:
                position = line.number
                event = cleaned(parse_event(line.text))
                if event is not None:
                    records.append(TrainingRecord(replica_uid=uid, line=line.number, event=event))
            if len(lines) < LINES_PER_CALL:
                break
    return Reading(records=tuple(records), replica=replica, position=position, is_complete=True)


def cleaned(event: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The event with values that the database takes; None if it is not one of ours.

    What a container prints is not to be trusted: a wrong line is skipped, never an obstacle.
    """
    if event is None or not isinstance(event["type"], str) or event["type"] not in set(TrainingEventType):
        return None
    step = event["step"]
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**31:
        return None
    try:
        at = datetime.fromisoformat(str(event.get("at")))
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    try:
        result: dict[str, Any] = _storable(dict(event))
    except RecursionError:
        return None
    return result | {"at": at}


def _storable(value: Any) -> Any:
    """JSON as PostgreSQL stores it: without NaN, infinity and NUL, which Python's parser lets through, and
    without integers that no column and no float can hold.
    """
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
