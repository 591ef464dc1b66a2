"""What an organization has used in a period: the ledger, added up by PostgreSQL, and what is still open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, Func, QuerySet, Sum, Value
from django.db.models.functions import Greatest, Least

from marketplace.accounts.models import Organization
from marketplace.billing.ledger import recorded_stretches, snapshot
from marketplace.billing.live import LiveUsage, live_usage
from marketplace.billing.metering import Stretch, clip
from marketplace.billing.models import Price, UsageInterval
from marketplace.billing.statement import Line, LineKey, Total, merge_lines, totals
from marketplace.hardware.models import Flavor, Region


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which part of an organization's usage."""

    organization: Organization
    resource: str = ""
    """Public id; empty = all."""
    phase: str = ""
    """A `UsagePhase` value; empty = all."""
    since: datetime | None = None
    until: datetime | None = None
    """Not part of the period."""


@dataclass(frozen=True, kw_only=True)
class OpenStretch:
    """Time of one replica that is not in the ledger yet."""

    usage: LiveUsage
    stretch: Stretch


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Lines, their totals, and the open stretches that they include."""

    as_of: datetime
    lines: Sequence[Line]
    totals: Sequence[Total]
    open: Sequence[OpenStretch]


def make_statement(selection: Selection, *, now: datetime) -> Statement:
    """Everything used in the selection, up to `now`."""
    with snapshot():
        still_open = open_stretches(selection, now=now)
        lines = merge_lines([*recorded_lines(selection), *(open_line(it) for it in still_open)])
    return Statement(as_of=now, lines=lines, totals=totals(lines), open=still_open)


def select_intervals(selection: Selection) -> QuerySet[UsageInterval]:
    """The ledger's rows that have a part in the selection."""
    rows = UsageInterval.objects.filter(organization=selection.organization)
    if selection.resource:
        rows = rows.filter(resource=selection.resource)
    if selection.phase:
        rows = rows.filter(phase=selection.phase)
    if selection.since or selection.until:
        rows = rows.filter(during__overlap=DateTimeTZRange(selection.since, selection.until))
    return rows


def recorded_lines(selection: Selection) -> list[Line]:
    """Lines of what the ledger holds, each interval cut to the period."""
    start: Func = Func(F("during"), function="lower", output_field=DateTimeField())
    end: Func = Func(F("during"), function="upper", output_field=DateTimeField())
    if selection.since:
        start = Greatest(start, Value(selection.since))
    if selection.until:
        end = Least(end, Value(selection.until))
    names = ("resource", "resource_name", "phase", "cause")
    grouped = (
        select_intervals(selection)
        .order_by()
        .values(*names, "flavor", "region", "price")
        .annotate(duration=Sum(ExpressionWrapper(end - start, output_field=DurationField())))
    )
    rows = list(grouped)
    flavors = Flavor.objects.in_bulk({row["flavor"] for row in rows})
    regions = Region.objects.in_bulk({row["region"] for row in rows})
    prices = Price.objects.in_bulk({row["price"] for row in rows})
    return [
        Line(
            key=line_key(
                **{name: row[name] for name in names},
                flavor=flavors[row["flavor"]],
                region=regions[row["region"]],
                price=prices[row["price"]],
            ),
            duration=row["duration"],
        )
        for row in rows
    ]


def open_stretches(selection: Selection, *, now: datetime) -> list[OpenStretch]:
    """What the live sources know and the ledger does not, cut to the period."""
    known = live_usage(organization=selection.organization, now=now)
    recorded = recorded_stretches(usage.replica_uid for usage in known)
    found = []
    for usage in known:
        if selection.resource and usage.resource != selection.resource:
            continue
        # The ledger has the word on all it has seen of a replica; only what follows is still open.
        held = max((it.end for it in recorded.get(usage.replica_uid, ())), default=None)
        new = clip(usage.stretches, start=held, end=None)
        for stretch in clip(new, start=selection.since, end=selection.until):
            if not selection.phase or stretch.phase == selection.phase:
                found.append(OpenStretch(usage=usage, stretch=stretch))
    return found


def open_line(item: OpenStretch) -> Line:
    """A line of one open stretch."""
    return Line(
        key=line_key(
            resource=item.usage.resource,
            resource_name=item.usage.resource_name,
            phase=item.stretch.phase,
            cause=item.stretch.cause,
            flavor=item.usage.flavor,
            region=item.usage.region,
            price=item.usage.price,
        ),
        duration=item.stretch.duration,
        open=item.stretch.duration,
    )


def line_key(
    *,
    resource: str,
    resource_name: str,
    phase: str,
    cause: str,
    flavor: Flavor,
    region: Region,
    price: Price,
) -> LineKey:
    """What a line is about, from the rows it refers to."""
    return LineKey(
        resource=resource,
        resource_name=resource_name,
        phase=str(phase),
        cause=str(cause),
        flavor=flavor.slug,
        region=region.slug,
        price=price.public_id,
        per_second=price.per_second,
        currency=price.currency,
    )
