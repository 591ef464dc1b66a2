from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from marketplace.billing.models import Price
from marketplace.billing.prices import set_price
from tests.market import Market

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def price(market: Market) -> Price:
    """One cent a second, for everyone, since the beginning of 2026."""
    price = set_price(
        flavor=market.large,
        region=market.region,
        per_second=Decimal("0.01"),
        currency="EUR",
        since=BEGINNING,
    )
    price.refresh_from_db()  # with the digits of the column
    return price
