from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import DateTimeRangeField
from django.db import models
from django.utils import timezone

from marketplace.accounts.models import Organization
from marketplace.hardware.models import AcceleratorFamily, Flavor, Region
from marketplace.ids import PublicIdField


class Price(models.Model):
    """What one second of a flavor costs in a region, for everyone or for one organization, while valid.

    PostgreSQL refuses two prices of the same flavor, region and organization whose validity overlaps.
    """

    public_id = PublicIdField("prc")
    flavor = models.ForeignKey(Flavor, on_delete=models.PROTECT, related_name="prices")
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="prices")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, null=True, blank=True, related_name="prices"
    )
    per_second = models.DecimalField(max_digits=18, decimal_places=9)
    currency = models.CharField(max_length=3)  # ISO 4217
    valid = DateTimeRangeField()  # [from, until); no upper bound = until changed
    source = models.TextField(blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(per_second__gte=0), name="price_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.flavor} in {self.region}: {self.per_second} {self.currency}/s"


class UsagePhase(models.TextChoices):
    STARTING = "starting", "Starting"
    SERVING = "serving", "Serving"
    TRAINING = "training", "Training"


class UsageCause(models.TextChoices):
    """Who pays for the interval."""

    CUSTOMER = "customer", "Customer"
    PROVIDER = "provider", "Provider"


class UsageInterval(models.Model):
    """A closed stretch of one replica's life, from facts the cluster reported. Append-only (trigger).

    Intervals of one replica never overlap (exclusion constraint). Billed iff `cause` is customer.
    """

    public_id = PublicIdField("usg")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="usage")
    resource = models.CharField(max_length=40)  # public id of the deployment or job
    resource_name = models.CharField(max_length=80)
    replica_uid = models.CharField(max_length=64)
    flavor = models.ForeignKey(Flavor, on_delete=models.PROTECT, related_name="+")
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="+")
    price = models.ForeignKey(Price, on_delete=models.PROTECT, related_name="+")
    phase = models.CharField(max_length=16, choices=UsagePhase.choices)
    cause = models.CharField(max_length=16, choices=UsageCause.choices)
    during = DateTimeRangeField()  # [from, until)
    recorded_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["organization", "resource"], name="usage_by_resource")]

    def __str__(self) -> str:
        return f"{self.resource} {self.phase}"


class Quota(models.Model):
    """How many devices of a family (vCPUs for CPU) an organization may hold at once."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="quotas")
    accelerator_family = models.CharField(max_length=8, choices=AcceleratorFamily.choices)
    limit = models.PositiveIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "accelerator_family"], name="one_quota_per_family"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.limit} × {self.accelerator_family}"
