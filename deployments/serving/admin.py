"""What staff see of deployments: everything, nothing to change. Wishes come through REST and the portal."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from deployments.serving.models import (
    Deletion,
    DeletionReceipt,
    Deployment,
    Event,
    Plan,
    PostMortem,
    Replica,
    Revision,
)
from marketplace.accounts.admin import ReadOnly


class ReadOnlyAdmin(ReadOnly, admin.ModelAdmin[Any]):
    """Rows that only lifecycle, the reconciler or planning may write."""


class RevisionInline(ReadOnly, admin.TabularInline[Revision, Deployment]):
    model = Revision
    fields = ("number", "version", "flavor", "price", "author", "created_at")
    readonly_fields = fields
    extra = 0


@admin.register(Deployment)
class DeploymentAdmin(ReadOnlyAdmin):
    list_display = (
        "name",
        "organization",
        "state",
        "desired_state",
        "flavor",
        "ready_replicas",
        "created_at",
    )
    list_filter = ("state", "desired_state", "cluster", "flavor")
    search_fields = ("name", "public_id", "organization__name", "organization__slug")
    list_select_related = ("organization", "flavor")
    inlines = (RevisionInline,)


class StuckFilter(admin.SimpleListFilter):
    """What staff have to look at."""

    title = "stuck"
    parameter_name = "stuck"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Stuck"), ("no", "On its way"), ("gone", "Gone")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Deletion]) -> QuerySet[Deletion]:
        match self.value():
            case "yes":
                return queryset.filter(stuck_at__isnull=False)
            case "no":
                return queryset.filter(stuck_at__isnull=True, gone_at__isnull=True)
            case "gone":
                return queryset.filter(gone_at__isnull=False)
        return queryset


@admin.register(Deletion)
class DeletionAdmin(ReadOnlyAdmin):
    list_display = (
        "public_id",
        "organization",
        "resource",
        "cluster",
        "requested_at",
        "deadline",
        "stuck_at",
        "gone_at",
    )
    list_filter = (StuckFilter, "cluster")
    search_fields = ("public_id", "resource", "resource_name")
    list_select_related = ("organization",)


@admin.register(DeletionReceipt)
class DeletionReceiptAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "organization", "resource", "requested_at", "gone_at")
    search_fields = ("public_id", "resource", "resource_name")
    list_select_related = ("organization",)


@admin.register(Replica)
class ReplicaAdmin(ReadOnlyAdmin):
    list_display = ("name", "organization", "resource", "phase", "ready", "node", "started_at", "finished_at")
    list_filter = ("phase", "ready", "cluster")
    search_fields = ("uid", "name", "resource")


@admin.register(PostMortem)
class PostMortemAdmin(ReadOnlyAdmin):
    list_display = ("ended_at", "organization", "resource", "replica", "attempt", "reason", "cause", "node")
    list_filter = ("reason", "cause")
    search_fields = ("resource", "replica_uid", "replica", "message")


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("at", "organization", "resource", "source", "reason", "message")
    list_filter = ("source", "reason")
    search_fields = ("resource", "message")


@admin.register(Plan)
class PlanAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "organization", "accepted", "flavor", "created_by", "created_at")
    list_filter = ("accepted", "flavor")
    search_fields = ("public_id",)
