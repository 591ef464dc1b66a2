"""The staff's view of prices, usage and quotas.

A price is added and closed, never edited; the ledger is read-only for everybody. Every change is audited.
"""

from __future__ import annotations

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from marketplace.accounts.admin import ReadOnly
from marketplace.accounts.audited_admin import AuditedAdmin, record_staff_change
from marketplace.billing.models import Price, Quota, QuotaRequest, QuotaRequestState, UsageInterval


@admin.register(Price)
class PriceAdmin(AuditedAdmin[Price]):
    list_display = ("flavor", "region", "organization", "per_second", "currency", "valid", "public_id")
    list_filter = ("currency", "region", "flavor")
    list_select_related = ("flavor", "region", "organization")
    search_fields = ("public_id", "flavor__slug", "organization__slug")

    def get_readonly_fields(self, request: HttpRequest, obj: Price | None = None) -> tuple[str, ...]:
        """PostgreSQL refuses a change of these, so the form does not offer it."""
        return () if obj is None else ("flavor", "region", "organization", "per_second", "currency")


@admin.register(UsageInterval)
class UsageIntervalAdmin(ReadOnly, admin.ModelAdmin[UsageInterval]):
    list_display = ("during", "organization", "resource_name", "phase", "cause", "flavor", "replica_uid")
    list_filter = ("phase", "cause", "flavor", "region")
    list_select_related = ("organization", "flavor")
    search_fields = ("resource", "resource_name", "replica_uid", "organization__slug")


@admin.register(Quota)
class QuotaAdmin(AuditedAdmin[Quota]):
    list_display = ("organization", "accelerator_family", "limit")
    list_filter = ("accelerator_family",)
    list_editable = ("limit",)
    list_select_related = ("organization",)
    search_fields = ("organization__slug", "organization__name")


@admin.register(QuotaRequest)
class QuotaRequestAdmin(ReadOnly, admin.ModelAdmin[QuotaRequest]):
    """Requests are made by customers; staff decide."""

    list_display = ("organization", "accelerator_family", "limit", "reason", "requested_at", "state")
    list_filter = ("state", "accelerator_family")
    list_select_related = ("organization",)
    search_fields = ("organization__slug", "organization__name")
    actions = ("grant", "decline")

    @admin.action(description="Grant: the quota becomes at least what was asked for", permissions=["decide"])
    def grant(self, request: HttpRequest, queryset: QuerySet[QuotaRequest]) -> None:
        self._decide(request, queryset, QuotaRequestState.GRANTED)

    @admin.action(description="Decline", permissions=["decide"])
    def decline(self, request: HttpRequest, queryset: QuerySet[QuotaRequest]) -> None:
        self._decide(request, queryset, QuotaRequestState.DECLINED)

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("billing.change_quota")

    @transaction.atomic
    def _decide(
        self, request: HttpRequest, queryset: QuerySet[QuotaRequest], state: QuotaRequestState
    ) -> None:
        asked = list(queryset.select_for_update().filter(state=QuotaRequestState.OPEN))
        for row in asked:
            row.state, row.decided_at = state, timezone.now()
            row.save(update_fields=["state", "decided_at"])
            if state == QuotaRequestState.GRANTED:
                _raise_quota(row)
            changes = {"state": [QuotaRequestState.OPEN.value, state.value], "limit": [None, row.limit]}
            record_staff_change(request, action="quotarequest.change", target=row, changes=changes)
        messages.info(request, f"{len(asked)} request(s) {state.label.lower()}.")


def _raise_quota(request: QuotaRequest) -> None:
    """To what was asked for. Never lower: it may have been raised since, for another request or by hand, or
    taken away, which leaves no limit at all."""
    lower = Quota.objects.filter(
        organization=request.organization,
        accelerator_family=request.accelerator_family,
        limit__lt=request.limit,
    )
    lower.update(limit=request.limit)
