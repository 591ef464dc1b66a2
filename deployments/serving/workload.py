"""The columns that deployments, fine-tuning jobs and workspaces share, and who writes each.

Wish: what the customer asked for. Written by `lifecycle.py` only, which bumps `generation`.
Fact: what was observed. Written by `deployments.reconcile.reconciler` only, guarded by `generation`.
Lease: who looks at the row now. Written by `deployments.reconcile.leases` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Value
from django.db.models.functions import Now
from django.utils import timezone

from marketplace.accounts.models import Organization
from marketplace.billing.models import Price
from marketplace.hardware.models import Cluster, Flavor

DELETED = "deleted"
"""Every kind's `desired_state` when nothing is to be left."""
PAUSED = "paused"
"""What `state` says once a pause has left nothing."""
MOST_PAUSES = 100
"""Remembered of one row. Of more, the two that are closest become one: nobody pays the time between."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Pods that customers want to run now."""

    rows: models.QuerySet[Any, Any]
    flavor: str = "flavor"
    """Lookup from a row to the flavor that they run on."""
    replicas: models.expressions.Combinable = models.Value(1)
    """Pods of a row, as SQL."""


class Workload(models.Model):
    """Something that runs on a cluster for an organization."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="%(class)ss")
    name = models.CharField(max_length=40)
    created_by = models.CharField(max_length=254, blank=True)  # e-mail address or API key id
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    # Wish
    generation = models.PositiveIntegerField(default=1)
    flavor = models.ForeignKey(Flavor, on_delete=models.PROTECT, related_name="+")
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="+")
    price = models.ForeignKey(Price, on_delete=models.PROTECT, related_name="+")  # as quoted; kept for good
    # When the customer asked for it to stop (pause, cancel or delete): no second after it is billed.
    stop_requested_at = models.DateTimeField(null=True, blank=True)

    # Fact
    observed_generation = models.PositiveIntegerField(default=0)
    # [{"type", "status", "reason", "message", "since"}], as customers read them.
    conditions = models.JSONField(default=list)
    # Why it does not run, or not as asked: see `reconcile.explanation`. Null while it does.
    explanation = models.JSONField(null=True, blank=True)
    # Set once the wish is "gone" and the cluster showed nothing of it.
    deleted_at = models.DateTimeField(null=True, blank=True)

    # Lease
    lease_token = models.CharField(max_length=36, blank=True)
    lease_until = models.DateTimeField(db_default=Now())
    failures = models.PositiveIntegerField(default=0)  # passes in a row that raised
    next_look_at = models.DateTimeField(db_default=Now())  # the row steps aside until then

    class Meta:
        abstract = True

    GOING_STATE: ClassVar[str] = ""
    """What `state` says while it is being deleted; empty = it stays what it was."""

    # Each kind declares its own prefix and states.
    public_id: models.CharField[str, str]
    desired_state: models.CharField[str, str]

    @property
    def is_to_go(self) -> bool:
        """The customer wants nothing to be left of it."""
        return self.desired_state == DELETED

    @classmethod
    def wished(cls) -> models.QuerySet[Self]:
        """The rows whose customer wants pods now."""
        raise NotImplementedError

    @classmethod
    def shares(cls) -> Sequence[Share]:
        """What all rows of this kind want to hold now. One pod each, unless a kind says more."""
        return (Share(rows=cls.wished()),)


class Pausable(models.Model):
    """Columns of a workload that customers can pause and resume."""

    # Wish
    # [[from, until]]: pauses that were over before the cluster was seen to hold nothing. A replica may have
    # lived through them, seen by nobody; none of it is billed.
    pauses = models.JSONField(default=list, db_default=Value([], models.JSONField()))

    class Meta:
        abstract = True

    state: models.CharField[str, str]
    generation: models.PositiveIntegerField[int, int]
    observed_generation: models.PositiveIntegerField[int, int]
    stop_requested_at: models.DateTimeField[Any, datetime | None]

    @property
    def pause_spans(self) -> list[tuple[datetime, datetime]]:
        """`pauses` as times."""
        return [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in self.pauses]

    def pauses_until(self, end: datetime) -> list[list[str]]:
        """What `pauses` has to be once the present pause ends at `end`."""
        if self.state == PAUSED and self.observed_generation == self.generation:
            return []  # whatever there was has ended, and its bill is written
        spans = [*self.pause_spans, (self.stop_requested_at or end, end)]
        if len(spans) > MOST_PAUSES:
            closest = min(range(MOST_PAUSES), key=lambda index: spans[index + 1][0] - spans[index][1])
            spans[closest : closest + 2] = [(spans[closest][0], spans[closest + 1][1])]
        return [[start.isoformat(), until.isoformat()] for start, until in spans]
