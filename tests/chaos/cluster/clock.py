"""One virtual clock for all: the product's Python, its SQL, the API server and the machines.

PostgreSQL finds `statement_timestamp()` on its search path, where a function of ours stands before its own:
the product's SQL runs as it is. What counts seconds with `time.monotonic` in the product's reconciler counts
these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo

import pytest
from django.db import connection
from django.utils import timezone

from deployments.reconcile import leases, tenants

_FUNCTION = """
CREATE SCHEMA chaos;
CREATE FUNCTION chaos.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
AS $$ SELECT pg_catalog.current_setting('chaos.now')::timestamptz $$;
SET search_path = chaos, public, pg_catalog;
"""


class Clock:
    """Stands still until somebody advances it."""

    def __init__(self) -> None:
        # Ahead of what the database has by default from its own clock, for ever.
        tomorrow = timezone.now() + timedelta(days=1)
        self._began = tomorrow.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        self._now = self._began

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return (self._now - self._began).total_seconds()

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self.tell_database()

    def advance_to_whole_minute(self) -> None:
        """So that what follows does not depend on what was before."""
        self.advance(60 - self._now.second - self._now.microsecond / 1e6)

    def tell_database(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('chaos.now', %s, false)", [self._now.isoformat()])


@contextmanager
def ruling(clock: Clock) -> Iterator[None]:
    """Within, the clock is the only one, for this thread's connection to the database."""

    class Virtual(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return clock.now()

    with pytest.MonkeyPatch.context() as patch, connection.cursor() as cursor:
        cursor.execute(_FUNCTION)
        clock.tell_database()
        # `timezone.now` itself stays the same function: it is the default of many columns.
        patch.setattr(timezone, "datetime", Virtual)
        patch.setattr(leases, "time", clock)
        patch.setattr(tenants, "time", clock)
        try:
            yield
        finally:
            cursor.execute("SET search_path = DEFAULT; DROP SCHEMA chaos CASCADE")
