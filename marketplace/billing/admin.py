"""The staff's view of prices, usage and quotas.

A price is added and closed, never edited; the ledger is read-only for everybody. Every change is audited.
"""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from marketplace.accounts.admin import ReadOnly
from marketplace.accounts.audited_admin import AuditedAdmin
from marketplace.billing.models import Price, Quota, UsageInterval


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
