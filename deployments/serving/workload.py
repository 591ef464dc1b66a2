"""The columns that deployments, fine-tuning jobs and workspaces share, and who writes each.

Wish: what the customer asked for. Written by `lifecycle.py` only, which bumps `generation`.
Fact: what was observed. Written by `deployments.reconcile.reconciler` only, guarded by `generation`.
Lease: who looks at the row now. Written by `deployments.reconcile.leases` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from marketplace.accounts.models import Organization
from marketplace.billing.models import Price
from marketplace.hardware.models import Cluster, Flavor

DELETED = "deleted"
"""Every kind's `desired_state` when nothing is to be left."""


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
