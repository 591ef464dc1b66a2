"""What must be true once the product has settled, each broken rule as one sentence.

Pods are counted as processes, and bills are compared with what PostgreSQL holds and with what the containers
wrote into their own logs, never with what the API says about itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg2

from marketplace.embedded.paths import DATABASE_NAME, Home
from marketplace.embedded.postgres import SUPERUSER

CLOCK_TOLERANCE = timedelta(seconds=5)
"""Between the start of a container's process and the first line it prints, on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A row of serving_replica. Times are timezone-aware."""

    uid: str
    resource: str
    started_at: datetime | None
    ended_at: datetime | None
    intervals: tuple[tuple[datetime, datetime], ...]
    """Billed and unbilled stretches, [from, until), in order."""
    billed: tuple[tuple[datetime, datetime], ...] = ()
    """Those that the customer pays."""


def read_replicas(home: Home) -> list[Replica]:
    """Every replica that was ever recorded, with its usage intervals."""
    connection = psycopg2.connect(host=str(home.sockets), user=SUPERUSER, dbname=DATABASE_NAME)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT uid, resource, started_at, coalesce(finished_at, vanished_at) FROM serving_replica"
            )
            rows = cursor.fetchall()
            cursor.execute(
                "SELECT replica_uid, lower(during), upper(during), cause"
                " FROM billing_usageinterval ORDER BY 2"
            )
            intervals: dict[str, list[tuple[datetime, datetime]]] = {}
            billed: dict[str, list[tuple[datetime, datetime]]] = {}
            for uid, start, end, cause in cursor.fetchall():
                intervals.setdefault(uid, []).append((start, end))
                if cause == "customer":
                    billed.setdefault(uid, []).append((start, end))
    finally:
        connection.close()
    return [
        Replica(
            uid=uid,
            resource=resource,
            started_at=start,
            ended_at=end,
            intervals=tuple(intervals.get(uid, ())),
            billed=tuple(billed.get(uid, ())),
        )
        for uid, resource, start, end in rows
    ]


def wrong_bills(replicas: Iterable[Replica]) -> list[str]:
    """Replicas whose intervals do not tile their life: from the start of the container to the pod's end."""
    found = []
    for replica in replicas:
        start, end = replica.started_at, replica.ended_at
        if start is None:
            if replica.intervals:
                found.append(f"replica {replica.uid} never started and has usage")
            continue
        known_until = start
        for lower, upper in replica.intervals:
            if lower != known_until:
                word = "doubled" if lower < known_until else "lost"
                found.append(f"replica {replica.uid}: usage between {known_until} and {lower} is {word}")
            known_until = upper
        if end is not None and known_until != max(start, end):
            found.append(f"replica {replica.uid}: usage is recorded until {known_until}, it ended at {end}")
    return found


def read_container_logs(home: Home) -> dict[str, datetime | None]:
    """Uid of every pod whose container ever printed, and the time it printed first (None: no stand-in)."""
    found: dict[str, datetime | None] = {}
    for log in sorted((home.cluster / "logs").glob("*/*.log")):
        uid = log.stem.partition("-")[2]
        words = log.read_text(errors="replace").split(maxsplit=2)
        if words:
            found[uid] = datetime.fromtimestamp(float(words[1]), UTC) if words[0] == "standin" else None
    return found


def read_restarts(home: Home) -> dict[str, list[datetime]]:
    """Uid of every pod -> when its stand-in container started anew, after the first time."""
    found = {}
    for log in sorted((home.cluster / "logs").glob("*/*.log")):
        starts = [line.split() for line in log.read_text(errors="replace").splitlines()]
        times = [datetime.fromtimestamp(float(words[1]), UTC) for words in starts if words[:1] == ["standin"]]
        found[log.stem.partition("-")[2]] = times[1:]
    return found


def billed_outages(replicas: Iterable[Replica], restarts: Mapping[str, list[datetime]]) -> list[str]:
    """Replicas whose customer pays for a moment at which the container had only just started anew."""
    return [
        f"replica {replica.uid} started anew at {moment} and is billed from {lower} to {upper}"
        for replica in replicas
        for moment in restarts.get(replica.uid, ())
        for lower, upper in replica.billed
        if lower < moment < upper
    ]


def unrecorded_containers(replicas: Iterable[Replica], logs: Mapping[str, datetime | None]) -> list[str]:
    """Containers that ran and are not on record, or with another start than their own log tells."""
    known = {replica.uid: replica for replica in replicas}
    found = []
    for uid, printed_at in logs.items():
        replica = known.get(uid)
        if replica is None:
            found.append(f"pod {uid} ran and is not on record")
        elif printed_at is not None and replica.started_at is None:
            found.append(f"pod {uid} ran from {printed_at} and has no start on record")
        elif printed_at is not None and abs(printed_at - replica.started_at) > CLOCK_TOLERANCE:  # type: ignore[operator]
            found.append(f"pod {uid} ran from {printed_at}, recorded from {replica.started_at}")
    return found
