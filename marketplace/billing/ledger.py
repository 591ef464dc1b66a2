"""The usage ledger: writes what replicas used, once, and adds it up into bills.

The only writer of `UsageInterval`. Intervals come from cluster facts and are never changed; a bill is always
computed from them, so it can be computed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import cast

from django.db import connection, transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange

from marketplace.accounts.models import Organization
from marketplace.billing.metering import Stretch, missing
from marketplace.billing.models import Price, UsageInterval
from marketplace.hardware.models import Flavor, Region


def stretch_of(interval: UsageInterval) -> Stretch:
    """A ledger row as a value."""
    # The constraint usage_is_closed_and_not_empty says that both are there.
    start, end = cast("tuple[datetime, datetime]", (interval.during.lower, interval.during.upper))
    return Stretch(interval.phase, interval.cause, start, end)


def recorded_stretches(replica_uids: Iterable[str]) -> dict[str, list[Stretch]]:
    """What the ledger holds of each replica, in order of time. A replica it does not know is left out."""
    held: dict[str, list[Stretch]] = {}
    for interval in UsageInterval.objects.filter(replica_uid__in=list(replica_uids)).order_by("during"):
        held.setdefault(interval.replica_uid, []).append(stretch_of(interval))
    return held


@contextmanager
def snapshot() -> Iterator[None]:
    """One view of the ledger and of what is open, for all queries within.

    Without it, an interval that is recorded between two queries is counted by both or by neither. Within a
    transaction that has begun already, that transaction's isolation stays as it is.
    """
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


@transaction.atomic
def record_usage(
    *,
    organization: Organization,
    resource: str,
    resource_name: str,
    replica_uid: str,
    flavor: Flavor,
    region: Region,
    price: Price,
    stretches: Sequence[Stretch],
) -> list[UsageInterval]:
    """Adds the parts of `stretches` that the ledger does not hold yet, and returns the rows it added.

    Idempotent: the same stretches again, or the same ones grown at their end, add only what is new. Raises
    metering.Overlap when they contradict what is recorded; nothing is written then.
    """
    # One writer per replica at a time: two passes that see the same facts must not both insert them. The
    # exclusion constraint would refuse the second; the lock lets it see the first's rows and add nothing.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"usage:{replica_uid}"])
    recorded = recorded_stretches([replica_uid]).get(replica_uid, [])
    return UsageInterval.objects.bulk_create(
        UsageInterval(
            organization=organization,
            resource=resource,
            resource_name=resource_name,
            replica_uid=replica_uid,
            flavor=flavor,
            region=region,
            price=price,
            phase=stretch.phase,
            cause=stretch.cause,
            during=DateTimeTZRange(stretch.start, stretch.end),
        )
        for stretch in missing(stretches, recorded=recorded)
    )
