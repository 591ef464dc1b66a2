"""The price book: which price is in force, and how it changes.

A price row never changes what it says. A new price closes the validity of the one before and opens its own,
so every interval ever billed can be recomputed from the rows it points to. PostgreSQL refuses two prices of
the same flavor, region and organization at the same time, and any change of a figure (migration 0002).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.db import transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.db.models import DateTimeField, F, Q, QuerySet

from marketplace.accounts.models import Organization
from marketplace.billing.models import Price
from marketplace.hardware.models import Flavor, Region
from marketplace.statements import Given, Statement


class PriceRefused(ValueError):
    """A price that cannot be added. The message says why and what would be right."""


def prices_in_force(*, organization: Organization | None, at: datetime) -> QuerySet[Price]:
    """The prices that `organization` pays at a moment, one per flavor and region; None = the public ones.

    An organization's own price takes the place of the public one.
    """
    paid_by = Q(organization=None)
    if organization is not None:
        paid_by |= Q(organization=organization)
    return _in_force(at=at, paid_by=paid_by).select_related("flavor", "region", "organization")


def _in_force(*, at: datetime | Given, paid_by: Q) -> QuerySet[Price]:
    return (
        Price.objects.filter(paid_by, valid__contains=at)
        # Own price first, public price (no organization) last: DISTINCT ON keeps the first.
        .order_by("flavor", "region", F("organization").asc(nulls_last=True))
        .distinct("flavor", "region")
    )


class PriceTag(NamedTuple):
    """What one second of a flavor costs: the columns of a price that is in force."""

    pk: int
    per_second: Decimal
    currency: str


_tags = Statement(
    lambda: _in_force(
        at=Given("at", output_field=DateTimeField()),
        paid_by=Q(organization=None) | Q(organization=Given("organization")),
    ).values_list("flavor_id", "region_id", *PriceTag._fields)
)


def price_tags(*, organization: Organization, at: datetime) -> dict[tuple[int, int], PriceTag]:
    """What `prices_in_force` says, without objects: primary keys of flavor and region -> the price."""
    rows = _tags.rows(organization=organization.pk, at=at)
    return {(flavor, region): PriceTag(*tag) for flavor, region, *tag in rows}


def price_in_force(
    *, flavor: Flavor, region: Region, organization: Organization | None, at: datetime
) -> Price | None:
    """The price of one flavor in one region for an organization at a moment; None = it is not for sale."""
    return prices_in_force(organization=organization, at=at).filter(flavor=flavor, region=region).first()


@transaction.atomic
def set_price(
    *,
    flavor: Flavor,
    region: Region,
    per_second: Decimal,
    currency: str,
    since: datetime,
    organization: Organization | None = None,
    source: str = "",
) -> Price:
    """Makes a price valid from `since` on, and ends the one before at that moment.

    Setting what is already in force at `since` with the same figures returns that row and writes nothing.
    Raises PriceRefused when a price is already set for a later time: decide about that one first.
    """
    book = Price.objects.select_for_update().filter(flavor=flavor, region=region, organization=organization)
    current = book.filter(valid__contains=since).first()
    if current and (current.per_second, current.currency) == (per_second, currency):
        return current
    later = book.filter(valid__startswith__gte=since).order_by("valid").first()
    if later:
        raise PriceRefused(
            f"{flavor} in {region} already has a price from {later.valid.lower} on; "
            "a new one must start after it"
        )
    if current:
        if current.valid.upper is not None:
            raise PriceRefused(
                f"the price of {flavor} in {region} ends at {current.valid.upper}; let the new one start then"
            )
        current.valid = DateTimeTZRange(current.valid.lower, since)
        current.save(update_fields=["valid"])
    return Price.objects.create(
        flavor=flavor,
        region=region,
        organization=organization,
        per_second=per_second,
        currency=currency,
        valid=DateTimeTZRange(since, None),
        source=source,
    )
