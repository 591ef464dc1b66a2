from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange

from marketplace.accounts.models import Organization
from marketplace.billing.models import Price
from marketplace.billing.prices import PriceRefused, price_in_force, prices_in_force, set_price
from tests.market import Market

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
APRIL = datetime(2026, 4, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def offer(price: Price) -> dict[str, Any]:
    return {"flavor": price.flavor, "region": price.region}


def test_a_new_price_ends_the_old_one_at_its_own_start(price: Price, offer: dict[str, Any]) -> None:
    dearer = set_price(**offer, per_second=Decimal("0.02"), currency="EUR", since=APRIL)

    def at(moment: datetime) -> Price | None:
        return price_in_force(**offer, organization=None, at=moment)

    assert [at(BEGINNING - MOMENT), at(BEGINNING), at(APRIL - MOMENT), at(APRIL)] == [
        None,
        price,
        price,
        dearer,
    ]


def test_setting_the_price_in_force_again_changes_nothing(price: Price, offer: dict[str, Any]) -> None:
    assert set_price(**offer, per_second=Decimal("0.01"), currency="EUR", since=APRIL) == price
    assert Price.objects.filter(**offer).count() == 1


def test_an_organization_pays_its_own_price_and_others_the_public_one(
    market: Market, price: Price, offer: dict[str, Any], acme: Organization, umbrella: Organization
) -> None:
    own = set_price(**offer, organization=acme, per_second=Decimal("0.005"), currency="EUR", since=BEGINNING)
    assert price_in_force(**offer, organization=acme, at=APRIL) == own
    assert price_in_force(**offer, organization=umbrella, at=APRIL) == price
    assert list(prices_in_force(organization=acme, at=APRIL)) == [market.price, own]
    assert list(prices_in_force(organization=None, at=APRIL)) == [market.price, price]


def test_it_refuses_a_price_before_one_that_is_already_set(price: Price, offer: dict[str, Any]) -> None:
    set_price(**offer, per_second=Decimal("0.02"), currency="EUR", since=APRIL)
    with pytest.raises(PriceRefused, match="already has a price from 2026-04-01"):
        set_price(**offer, per_second=Decimal("0.03"), currency="EUR", since=APRIL - timedelta(days=1))
    assert Price.objects.filter(**offer).count() == 2


def test_postgresql_refuses_two_prices_at_one_time(
    price: Price, offer: dict[str, Any], acme: Organization
) -> None:
    values = {**offer, "per_second": 1, "currency": "EUR", "valid": DateTimeTZRange(APRIL, None)}
    with pytest.raises(IntegrityError, match="one_price_at_a_time"), transaction.atomic():
        Price.objects.create(**values)
    Price.objects.create(**values, organization=acme)
    with pytest.raises(IntegrityError, match="one_price_at_a_time"), transaction.atomic():
        Price.objects.create(**values, organization=acme)


def test_a_form_says_that_another_price_is_valid_then(price: Price, offer: dict[str, Any]) -> None:
    second = Price(**offer, per_second=1, currency="eur", valid=DateTimeTZRange(APRIL, None))
    with pytest.raises(ValidationError) as refusal:
        second.full_clean()
    assert refusal.value.message_dict == {
        "currency": ["Write the three letters of ISO 4217, such as EUR."],
        "__all__": ["Another price of this flavor and region is valid at that time."],
    }


@pytest.mark.parametrize(
    "change",
    [{"per_second": 2}, {"currency": "USD"}, {"valid": DateTimeTZRange(APRIL, None)}],
)
def test_postgresql_refuses_to_change_what_a_price_says(price: Price, change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match="never changes"), transaction.atomic():
        Price.objects.filter(pk=price.pk).update(**change)


@pytest.mark.parametrize("valid", [(None, APRIL), (APRIL, APRIL)])
def test_a_price_needs_a_start_before_its_end(offer: dict[str, Any], valid: tuple[Any, Any]) -> None:
    Price.objects.filter(**offer).delete()
    with pytest.raises(IntegrityError, match="price_validity_has_a_start"), transaction.atomic():
        Price.objects.create(**offer, per_second=1, currency="EUR", valid=DateTimeTZRange(*valid))
