"""The portal's page of usage: this month's statement, what it is made of, and other months."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.utils import timezone

from marketplace.accounts.models import Scope
from marketplace.billing.usage import Selection, make_statement
from marketplace.rest.problems import invalid
from marketplace.web.pages import PortalPage


class UsagePage(PortalPage):
    """`?month=2026-11`; this month unless told."""

    template_name = "billing/usage.html"
    required_scope: ClassVar[str] = Scope.BILLING

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        now = timezone.now()
        since, until = month_of(self.request.GET.get("month") or f"{now:%Y-%m}")
        selection = Selection(organization=self.actor.organization, since=since, until=until)
        return super().get_context_data(**context) | {
            "statement": make_statement(selection, now=now),
            "month": since,
            "previous": _month_before(since),
            "next": until if until <= now else None,
        }


def month_of(text: str) -> tuple[datetime, datetime]:
    """The first moment of a month written 2026-11, and that of the next, in UTC. Raises Problem."""
    try:
        since = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
        until = since.replace(year=since.year + since.month // 12, month=since.month % 12 + 1)
        _month_before(since)
    except ValueError as error:
        raise invalid([{"field": "month", "message": "Write a month as 2026-11."}]) from error
    return since, until


def _month_before(month: datetime) -> datetime:
    if month.month == 1:
        return month.replace(year=month.year - 1, month=12)
    return month.replace(month=month.month - 1)
