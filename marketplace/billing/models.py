from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Coalesce
from django.utils import timezone

from marketplace.accounts.models import Organization
from marketplace.hardware.models import AcceleratorFamily, Flavor, Region
from marketplace.ids import PublicIdField


def _same(expression: models.F | Coalesce, *, range_type: str) -> tuple[models.Func, str]:
    """Equality of a scalar inside a GiST exclusion constraint, as the overlap of one-point ranges.

    The usual way, `=` with the extension btree_gist, needs an extension that the embedded PostgreSQL does
    not have and that managed services do not always allow. Ranges have a GiST operator class of their own.
    """
    point = models.Func(expression, expression, models.Value("[]"), function=range_type)
    return point, RangeOperators.OVERLAPS


class Price(models.Model):
    """What one second of a flavor costs in a region, for everyone or for one organization, while valid.

    PostgreSQL refuses two prices of the same flavor, region and organization whose validity overlaps, and any
    change of what a price says: only `valid` may be closed or reopened, and the source corrected (trigger).
    `prices.set_price` is the way to change one.
    """

    public_id = PublicIdField("prc")
    flavor = models.ForeignKey(Flavor, on_delete=models.PROTECT, related_name="prices")
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="prices")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, null=True, blank=True, related_name="prices"
    )
    per_second = models.DecimalField(max_digits=18, decimal_places=9)
    currency = models.CharField(
        max_length=3,
        validators=[RegexValidator("^[A-Z]{3}$", "Write the three letters of ISO 4217, such as EUR.")],
    )
    valid = DateTimeRangeField()  # [from, until); no upper bound = until changed
    source = models.TextField(blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(per_second__gte=0), name="price_not_negative"),
            models.CheckConstraint(
                condition=models.Q(valid__isempty=False, valid__lower_inf=False),
                name="price_validity_has_a_start",
                violation_error_message="A price needs a moment from which it is valid, before its end.",
            ),
            ExclusionConstraint(
                name="one_price_at_a_time",
                expressions=[
                    _same(models.F("flavor"), range_type="int8range"),
                    _same(models.F("region"), range_type="int8range"),
                    # No organization has id 0: it stands for "everyone".
                    _same(Coalesce("organization", 0), range_type="int8range"),
                    ("valid", RangeOperators.OVERLAPS),
                ],
                violation_error_message="Another price of this flavor and region is valid at that time.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.flavor} in {self.region}: {self.per_second} {self.currency}/s"


class UsagePhase(models.TextChoices):
    STARTING = "starting", "Starting"
    SERVING = "serving", "Serving"
    OUTAGE = "outage", "Outage"  # it had answered and did not
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
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(during__isempty=False, during__lower_inf=False, during__upper_inf=False),
                name="usage_is_closed_and_not_empty",
            ),
            ExclusionConstraint(
                name="no_second_of_a_replica_twice",
                expressions=[
                    # A range type over text, made by migration 0002.
                    _same(models.F("replica_uid"), range_type="usage_uid_range"),
                    ("during", RangeOperators.OVERLAPS),
                ],
            ),
        ]

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


class QuotaRequestState(models.TextChoices):
    OPEN = "open", "Open"
    GRANTED = "granted", "Granted"
    DECLINED = "declined", "Declined"


class QuotaRequest(models.Model):
    """A customer's wish for a higher quota. Staff grant or decline it in the admin."""

    public_id = PublicIdField("qrq")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="quota_requests")
    accelerator_family = models.CharField(max_length=8, choices=AcceleratorFamily.choices)
    limit = models.PositiveIntegerField()  # wanted in all, not in addition
    reason = models.TextField(blank=True)
    requested_by = models.CharField(max_length=254)  # e-mail address or API key id
    requested_at = models.DateTimeField(default=timezone.now, editable=False)
    state = models.CharField(max_length=16, choices=QuotaRequestState.choices, default=QuotaRequestState.OPEN)
    decided_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.organization} asks for {self.limit} × {self.accelerator_family}"

    @classmethod
    def open_for(
        cls, organization: Organization, *, family: str, limit: int
    ) -> models.QuerySet[QuotaRequest]:
        """Undecided requests of an organization for at least so much of a family."""
        return cls.objects.filter(
            organization=organization,
            accelerator_family=family,
            limit__gte=limit,
            state=QuotaRequestState.OPEN,
        )
