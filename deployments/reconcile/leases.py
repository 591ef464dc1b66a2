"""Leases: who looks at a row now, and when a row that failed is looked at again.

A lease is a conditional UPDATE, so no row is locked while somebody talks to a cluster. It ends by itself: a
process that dies holding one costs a few seconds. Its token fences: facts are only written while the row
still carries it. All times are the database's, since processes on several machines compare them.
"""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, Q, QuerySet, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

LEASE_SECONDS = 20.0
"""A dead process blocks its row no longer than this. Longer than a call to a cluster that is well; one that
hangs may outlive it. Then its facts are refused by the token, and a step taken late is mended by the next
look."""
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 300.0


class LeaseLost(Exception):
    """Somebody else looks at the row now: stop at once, without another word."""


@dataclass
class Lease:
    """The right to look at one row and to write its facts, for a while."""

    rows: QuerySet[Any]
    """All rows of the kind."""
    resource: str
    token: str
    renewed_at: float = field(default_factory=time.monotonic)

    def renew(self) -> None:
        """Makes sure that enough time is left for another call. Raises LeaseLost."""
        if time.monotonic() - self.renewed_at < LEASE_SECONDS / 2:
            return
        if not self._rows().update(lease_until=_in(LEASE_SECONDS)):
            raise LeaseLost(self.resource)
        self.renewed_at = time.monotonic()

    def give_back(self, *, generation: int) -> bool:
        """Ends the lease after a look that went well; False = keep it and look again.

        It is kept when the customer has changed the wish since the look at `generation`: whoever rang for
        that change found the row taken and went away.
        """
        unchanged = self._rows().filter(generation=generation)
        if unchanged.update(lease_token="", lease_until=Now(), failures=0):
            return True
        return not self._rows().exists()

    def step_aside(self, *, generation: int, at_least: float = 0.0) -> None:
        """Ends the lease after a look that failed: the row rests, longer each time, and `at_least` so many
        seconds.

        That the look was at `generation` is noted, so that the customer's next change is not made to wait.
        """
        failures = self._rows().values_list("failures", flat=True).first() or 0
        self._rows().update(
            lease_token="",
            lease_until=Now(),
            failures=failures + 1,
            next_look_at=_in(max(at_least, pause_seconds(failures, chance=random.random()))),
            observed_generation=generation,
        )

    def _rows(self) -> QuerySet[Any]:
        return self.rows.filter(public_id=self.resource, lease_token=self.token)


def take_lease(rows: QuerySet[Any], resource: str, *, patient: bool = False) -> Lease | None:
    """The lease of one of the rows; None if somebody else has it or there is no such row.

    `patient` respects the rest of a row that failed, unless the customer has changed it since.
    """
    token = str(uuid.uuid4())
    free = rows.filter(public_id=resource, lease_until__lte=Now())
    if patient:
        free = free.filter(
            Q(failures=0) | Q(next_look_at__lte=Now()) | Q(generation__gt=F("observed_generation"))
        )
    if not free.update(lease_token=token, lease_until=_in(LEASE_SECONDS)):
        return None
    return Lease(rows=rows, resource=resource, token=token)


def is_held(rows: QuerySet[Any], resource: str) -> bool:
    """Whether somebody looks at the row now."""
    return rows.filter(public_id=resource, lease_until__gt=Now()).exists()


def pause_seconds(failures: int, *, chance: float) -> float:
    """How long a row rests after it has failed `failures` times before; `chance` in [0, 1) spreads it."""
    longest: float = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 30))
    return longest * (0.5 + chance / 2)


def _in(seconds: float) -> Combinable:
    return ExpressionWrapper(
        Now() + Value(timedelta(seconds=seconds), output_field=DurationField()),
        output_field=DateTimeField(),
    )
