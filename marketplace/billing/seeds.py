"""Makes the first price book from `data/prices.toml` or a provider's file of places. Staff edit it
afterwards; seeding changes no price."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from django.db.backends.postgresql.psycopg_any import DateTimeTZRange

from marketplace.billing.models import Price
from marketplace.billing.money import SECONDS_PER_HOUR
from marketplace.hardware.models import Flavor, Region
from marketplace.hardware.places import Places
from marketplace.seeds import SeedCount, find, read_data

PRICE_STEP = Decimal("0.000000001")
"""What the price column resolves, per second."""


def seed_prices(places: Places | None = None) -> SeedCount:
    """A price for each flavor and region of the shipped file, or of `places`, that has never had a public
    one."""
    if places is None:
        shipped = read_data("billing", "prices")
        note = f"; read {shipped['source_date']:%Y-%m-%d}"
        rows, currency, valid_from = shipped["price"], shipped["currency"], shipped["valid_from"]
    else:
        note = ""
        rows, currency, valid_from = places.rows("price"), places.currency, places.valid_from
    flavors = {row.slug: row for row in Flavor.objects.all()}
    regions = {row.slug: row for row in Region.objects.all()}
    priced = set(Price.objects.filter(organization=None).values_list("flavor__slug", "region__slug"))
    new = []
    kept = 0
    for row in rows:
        for region in row["regions"]:
            if (row["flavor"], region) in priced:
                kept += 1
                continue
            new.append(
                Price(
                    flavor=find(flavors, slug=row["flavor"], of="A price"),
                    region=find(regions, slug=region, of=f"The price of {row['flavor']}"),
                    per_second=per_second(Decimal(row["per_hour"])),
                    currency=currency,
                    valid=DateTimeTZRange(valid_from, None),
                    source=f"{row.get('source', '')}{note}",
                )
            )
    Price.objects.bulk_create(new)
    return SeedCount(created=len(new), kept=kept)


def per_second(per_hour: Decimal) -> Decimal:
    """The price of a second, as exact as its column: an hour is off by at most 0.0000018."""
    return (per_hour / SECONDS_PER_HOUR).quantize(PRICE_STEP, rounding=ROUND_HALF_EVEN)
