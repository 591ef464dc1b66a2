"""Adds up time into the lines of a statement. Pure: what was used goes in as values, priced lines come out.

A line is everything of one resource, phase, payer, flavor and price. It is rounded once, over all its time,
so a stretch that is still open and the interval it becomes give the same cent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from marketplace.billing.money import exact_amount, rounded, seconds_of, total

BILLED_CAUSE = "customer"
"""The `UsageCause` value whose time costs money; anybody else's is shown and costs nothing."""


@dataclass(frozen=True, kw_only=True, order=True)
class LineKey:
    """What a line is about."""

    resource: str
    """Public id of the deployment or job."""
    resource_name: str
    phase: str
    cause: str
    flavor: str
    """Slug."""
    region: str
    """Slug."""
    price: str
    """Public id."""
    per_second: Decimal
    currency: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """Time and what it costs."""

    key: LineKey
    duration: timedelta
    open: timedelta = timedelta(0)
    """The part of it that is not in the ledger yet, and may still grow."""

    @property
    def is_open(self) -> bool:
        return bool(self.open)

    @property
    def billed(self) -> bool:
        return self.key.cause == BILLED_CAUSE

    @property
    def seconds(self) -> Decimal:
        return seconds_of(self.duration)

    @property
    def exact_amount(self) -> Decimal:
        """With every digit; 0 for time that the provider pays."""
        price = self.key.per_second if self.billed else Decimal(0)
        return exact_amount(seconds=self.seconds, per_second=price)

    @property
    def amount(self) -> Decimal:
        """As billed: rounded to the currency's minor unit."""
        return rounded(self.exact_amount, currency=self.key.currency)


@dataclass(frozen=True, kw_only=True)
class Total:
    """All lines of one currency."""

    currency: str
    amount: Decimal
    """The sum of the lines' rounded amounts."""
    billed: timedelta
    unbilled: timedelta
    is_open: bool

    @property
    def billed_seconds(self) -> Decimal:
        return seconds_of(self.billed)

    @property
    def unbilled_seconds(self) -> Decimal:
        return seconds_of(self.unbilled)


def merge_lines(lines: Iterable[Line]) -> list[Line]:
    """One line for each key, in the order of resources, phases and payers."""
    merged: dict[LineKey, Line] = {}
    for line in lines:
        known = merged.get(line.key)
        if known is None:
            merged[line.key] = line
        else:
            merged[line.key] = replace(
                known, duration=known.duration + line.duration, open=known.open + line.open
            )
    return [merged[key] for key in sorted(merged)]


def totals(lines: Sequence[Line]) -> list[Total]:
    """One total for each currency."""
    found = []
    for currency in sorted({line.key.currency for line in lines}):
        of_currency = [line for line in lines if line.key.currency == currency]
        found.append(
            Total(
                currency=currency,
                amount=total((line.amount for line in of_currency), currency=currency),
                billed=sum((line.duration for line in of_currency if line.billed), timedelta()),
                unbilled=sum((line.duration for line in of_currency if not line.billed), timedelta()),
                is_open=any(line.is_open for line in of_currency),
            )
        )
    return found
