"""Arithmetic of prices and amounts. Pure: Decimals in, Decimals out.

Prices are per second and time is counted to the microsecond, so a product of the two is exact. It is rounded
once, on the line of a bill: half to even, to the minor unit of the currency (cents for EUR). Because nothing
is rounded before the line, cutting an interval in two (at midnight, at a change of price) never moves a cent
of the line it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact

SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 24 * SECONDS_PER_HOUR
HOURS_PER_MONTH = 730
"""A quoted month is a twelfth of 365 days. A bill counts the seconds that really passed."""
SECONDS_PER_MONTH = HOURS_PER_MONTH * SECONDS_PER_HOUR

# 18 digits of price times 18 digits of microseconds fit with room to spare; if ever not, it raises
# instead of losing a digit.
_EXACT = Context(prec=60, traps=[Inexact])
_ROUNDING = Context(prec=60, rounding=ROUND_HALF_EVEN)

# Currencies whose minor unit is not a hundredth. Source: ISO 4217, list one (SIX Group, 2024-06-25).
_WITHOUT_DECIMALS = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG")
    + ("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF")
)
_THREE_DECIMALS = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))


def minor_unit(currency: str) -> Decimal:
    """The smallest amount of a currency (ISO 4217): Decimal('0.01') for EUR, Decimal('1') for JPY."""
    if currency in _WITHOUT_DECIMALS:
        return Decimal("1")
    return Decimal("0.001") if currency in _THREE_DECIMALS else Decimal("0.01")


def seconds_of(duration: timedelta) -> Decimal:
    """A duration as exact seconds, to the microsecond."""
    microseconds = duration // timedelta(microseconds=1)
    return Decimal(microseconds).scaleb(-6)


def exact_amount(*, seconds: Decimal, per_second: Decimal) -> Decimal:
    """Seconds × price per second, with every digit."""
    return _EXACT.multiply(seconds, per_second)


def rounded(amount: Decimal, *, currency: str) -> Decimal:
    """An amount as a line of a bill shows it: half to even, to the currency's minor unit."""
    return amount.quantize(minor_unit(currency), context=_ROUNDING)


def line_amount(*, seconds: Decimal, per_second: Decimal, currency: str) -> Decimal:
    """What one line costs. `seconds` is the whole line's, however many intervals it was made of."""
    return rounded(exact_amount(seconds=seconds, per_second=per_second), currency=currency)


def total(amounts: Iterable[Decimal], *, currency: str) -> Decimal:
    """The sum of lines, each already rounded, so that a customer can add them up by hand."""
    return sum(amounts, start=Decimal(0) * minor_unit(currency))


@dataclass(frozen=True, kw_only=True)
class Quote:
    """A price as people compare them. All but the month are exact; the month is rounded like a line."""

    currency: str
    per_second: Decimal
    per_minute: Decimal
    per_hour: Decimal
    per_day: Decimal
    per_month: Decimal
    """Of 730 hours."""


def quote(*, per_second: Decimal, currency: str, replicas: int = 1) -> Quote:
    """What `replicas` replicas cost at a price per second of one."""
    second = exact_amount(seconds=Decimal(replicas), per_second=per_second)
    return Quote(
        currency=currency,
        per_second=second,
        per_minute=_EXACT.multiply(second, Decimal(SECONDS_PER_MINUTE)),
        per_hour=_EXACT.multiply(second, Decimal(SECONDS_PER_HOUR)),
        per_day=_EXACT.multiply(second, Decimal(SECONDS_PER_DAY)),
        per_month=line_amount(seconds=Decimal(SECONDS_PER_MONTH), per_second=second, currency=currency),
    )
