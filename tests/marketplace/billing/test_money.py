from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.billing.money import (
    Quote,
    exact_amount,
    line_amount,
    minor_unit,
    quote,
    rounded,
    seconds_of,
    total,
)

prices = st.decimals(min_value=0, max_value=999_999_999, places=9)
durations = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650))


@pytest.mark.parametrize(
    ("case", "amount", "currency", "line"),
    [
        ("half goes to the even cent below", "0.125", "EUR", "0.12"),
        ("half goes to the even cent above", "0.135", "EUR", "0.14"),
        ("more than half goes up", "0.1250000001", "EUR", "0.13"),
        ("yen have no decimals", "2.5", "JPY", "2"),
        ("dinars of Bahrain have three", "0.0005", "BHD", "0.000"),
        ("nothing is shown with its decimals", "0", "EUR", "0.00"),
    ],
)
def test_a_line_is_rounded_half_to_even(case: str, amount: str, currency: str, line: str) -> None:
    assert str(rounded(Decimal(amount), currency=currency)) == line, case


@given(duration=durations, share=st.floats(0, 1), per_second=prices)
def test_cutting_an_interval_anywhere_keeps_the_exact_amount(
    duration: timedelta, share: float, per_second: Decimal
) -> None:
    first = duration * share
    whole = exact_amount(seconds=seconds_of(duration), per_second=per_second)
    pieces = [
        exact_amount(seconds=seconds_of(part), per_second=per_second) for part in (first, duration - first)
    ]
    assert rounded(sum(pieces, Decimal(0)), currency="EUR") == rounded(whole, currency="EUR")


@given(duration=durations)
def test_seconds_keep_every_microsecond(duration: timedelta) -> None:
    assert timedelta(microseconds=int(seconds_of(duration) * 1_000_000)) == duration


def test_a_quote_shows_minute_hour_day_and_a_month_of_730_hours() -> None:
    assert quote(per_second=Decimal("0.000016667"), currency="EUR", replicas=2) == Quote(
        currency="EUR",
        per_second=Decimal("0.000033334"),
        per_minute=Decimal("0.002000040"),
        per_hour=Decimal("0.120002400"),
        per_day=Decimal("2.880057600"),
        per_month=Decimal("87.60"),
    )


def test_a_total_is_the_sum_of_the_rounded_lines() -> None:
    line = line_amount(seconds=Decimal(1), per_second=Decimal("0.014"), currency="EUR")
    assert (str(line), str(total([line, line], currency="EUR"))) == ("0.01", "0.02")
    assert str(total([], currency="EUR")) == "0.00"


def test_minor_units_follow_iso_4217() -> None:
    assert [str(minor_unit(code)) for code in ("EUR", "JPY", "KWD")] == ["0.01", "1", "0.001"]
