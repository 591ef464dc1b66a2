"""Calls, errors and tokens per minute, for insight.

Counted in memory and added to the database every few seconds and at the end of the process, by
`count = count + n`, so that any number of gateways count into the same rows exactly. A gateway that is killed
loses what it counted since its last write. Bills never come from here: they come from the usage ledger.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import DatabaseError, InterfaceError, connection

from deployments.gateway.database import Database
from deployments.gateway.models import Meter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class Bucket:
    """One row of `RequestCount`."""

    resource: str
    api_key: str
    minute: datetime
    meter: str
    organization: int


class Counts:
    """Adds up in memory; `keep_writing` runs for the life of the process, `flush` once more at its end."""

    def __init__(self, database: Database, *, every: float) -> None:
        self._database = database
        self._every = every
        self._pending: Counter[Bucket] = Counter()

    def add(
        self, *, organization: int, resource: str, api_key: str, at: datetime, amounts: Mapping[Meter, int]
    ) -> None:
        """Counts one call. `at` is timezone-aware; amounts of 0 are left out."""
        minute = at.astimezone(UTC).replace(second=0, microsecond=0)
        for meter, amount in amounts.items():
            if amount:
                self._pending[Bucket(resource, api_key, minute, meter.value, organization)] += amount

    async def keep_writing(self) -> None:
        """Writes every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await self.flush()

    async def flush(self) -> None:
        """Writes what was counted since the last time. If the database does not take it, it is kept."""
        counted, self._pending = self._pending, Counter()
        if not counted:
            return
        try:
            await self._database.run(add_counts, counted)
        except (DatabaseError, InterfaceError) as error:
            self._pending.update(counted)
            logger.warning("Counts are kept for later, the database did not take them: %s", error)


def add_counts(counted: Mapping[Bucket, int]) -> None:
    """Adds amounts to their rows, in one statement. Those of an organization that is gone are dropped."""
    # Sorted, so that two gateways that write the same rows lock them in the same order.
    buckets = sorted(counted)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO gateway_requestcount AS kept
                (organization_id, resource, api_key, minute, meter, count)
            SELECT counted.* FROM unnest(
                %s::bigint[], %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::bigint[]
            ) AS counted (organization_id, resource, api_key, minute, meter, count)
            JOIN accounts_organization ON accounts_organization.id = counted.organization_id
            ORDER BY 2, 3, 4, 5
            ON CONFLICT (resource, api_key, minute, meter)
            DO UPDATE SET count = kept.count + excluded.count
            """,
            [
                [bucket.organization for bucket in buckets],
                [bucket.resource for bucket in buckets],
                [bucket.api_key for bucket in buckets],
                [bucket.minute for bucket in buckets],
                [bucket.meter for bucket in buckets],
                [counted[bucket] for bucket in buckets],
            ],
        )
