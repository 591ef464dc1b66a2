"""Checks the ledger against itself: that it tiles every replica's life, and that bills come out the same.

A gap is never guessed over: it is reported with the replica and the time that is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import groupby

from marketplace.accounts.models import Organization
from marketplace.billing.ledger import stretch_of
from marketplace.billing.live import lifetimes
from marketplace.billing.metering import Gap, Stretch, clip, cut, gaps
from marketplace.billing.models import UsageInterval
from marketplace.billing.statement import BILLED_CAUSE, Line, LineKey, merge_lines
from marketplace.billing.usage import Selection, line_key, recorded_lines

AT_ONCE = 2000
"""Ledger rows read at a time."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was looked at, and what is wrong with it, in words. Nothing wrong = no problems."""

    replicas: int
    intervals: int
    lines: int
    """Lines of all bills that were computed twice."""
    problems: Sequence[str]


def verify_ledger() -> Report:
    """Reads the whole ledger.

    1. Each replica's intervals must tile its time: belong to one resource and leave no gap, also against the
       life that the cluster reported, where a source knows it. No moment at which it is known not to have
       answered may be billed.
    2. Each organization's bill is computed a second time, row by row and cut at every midnight, and must be
       what the statement says, line by line.
    """
    problems: list[str] = []
    known = {lifetime.replica_uid: lifetime for lifetime in lifetimes()}
    replicas = intervals = 0
    again: defaultdict[int, defaultdict[LineKey, timedelta]] = defaultdict(lambda: defaultdict(timedelta))
    rows = UsageInterval.objects.select_related("flavor", "region", "price").order_by("replica_uid", "during")
    for uid, group in groupby(rows.iterator(chunk_size=AT_ONCE), key=lambda row: row.replica_uid):
        life = list(group)
        replicas += 1
        intervals += len(life)
        if len({(row.organization_id, row.resource) for row in life}) > 1:
            owners = ", ".join(sorted({row.resource for row in life}))
            problems.append(f"replica {uid} is billed to more than one resource: {owners}")
        whole = known.pop(uid, None)
        problems += _gaps(
            uid,
            resource=life[0].resource,
            stretches=[stretch_of(row) for row in life],
            start=whole.start if whole else None,
            end=whole.end if whole else None,
        )
        problems += _billed_outages(uid, life, outages=whole.outages if whole else ())
        for row in life:
            whole_row = stretch_of(row)
            for piece in cut([whole_row], at=_midnights(whole_row)):
                again[row.organization_id][_key(row)] += piece.duration
    for uid, lifetime in known.items():
        problems.append(
            f"replica {uid} of {lifetime.resource} ran from {lifetime.start.isoformat()} to "
            f"{lifetime.end.isoformat()} and nothing of it is recorded"
        )
    compared = 0
    for customer in Organization.objects.filter(pk__in=again).order_by("pk"):
        statement = merge_lines(recorded_lines(Selection(organization=customer)))
        compared += len(statement)
        second = [Line(key=key, duration=duration) for key, duration in again[customer.pk].items()]
        problems += _differences(customer, statement=statement, again=second)
    return Report(replicas=replicas, intervals=intervals, lines=compared, problems=problems)


def _gaps(
    uid: str, *, resource: str, stretches: Sequence[Stretch], start: datetime | None, end: datetime | None
) -> list[str]:
    return [
        f"replica {uid} of {resource}: nothing is recorded from {gap}"
        for gap in gaps(stretches, start=start, end=end)
    ]


def _billed_outages(uid: str, life: Sequence[UsageInterval], *, outages: Sequence[Gap]) -> list[str]:
    billed = [stretch_of(row) for row in life if row.cause == BILLED_CAUSE]
    wrong = [part for outage in outages for part in clip(billed, start=outage.start, end=outage.end)]
    return [
        f"replica {uid} of {life[0].resource} did not answer and is billed: {Gap(part.start, part.end)}"
        for part in wrong
    ]


def _key(row: UsageInterval) -> LineKey:
    return line_key(
        resource=row.resource,
        resource_name=row.resource_name,
        phase=row.phase,
        cause=row.cause,
        flavor=row.flavor,
        region=row.region,
        price=row.price,
    )


def _midnights(stretch: Stretch) -> Iterable[datetime]:
    midnight = datetime.combine(stretch.start.date(), time(), tzinfo=stretch.start.tzinfo)
    while midnight < stretch.end:
        yield midnight
        midnight += timedelta(days=1)


def _differences(
    organization: Organization, *, statement: Sequence[Line], again: Sequence[Line]
) -> list[str]:
    first = {line.key: line for line in statement}
    second = {line.key: line for line in again}
    return [
        f"bill of {organization.public_id}, {key.resource} {key.phase}: "
        f"{_told(first.get(key))} in the statement, {_told(second.get(key))} from the rows"
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    ]


def _told(line: Line | None) -> str:
    return f"{line.seconds} s = {line.amount} {line.key.currency}" if line else "nothing"
