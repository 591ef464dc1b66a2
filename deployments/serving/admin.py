"""What staff see of deployments: everything, nothing to change. Wishes come through REST and the portal."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from deployments.serving.models import Deployment, Event, Plan, Replica, Revision


class ReadOnlyAdmin(admin.ModelAdmin[Any]):
    """Rows that only lifecycle, the reconciler or planning may write."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class RevisionInline(admin.TabularInline[Revision, Deployment]):
    model = Revision
    fields = ("number", "version", "flavor", "price", "author", "created_at")
    readonly_fields = fields
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


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


@admin.register(Replica)
class ReplicaAdmin(ReadOnlyAdmin):
    list_display = ("name", "organization", "resource", "phase", "ready", "node", "started_at", "finished_at")
    list_filter = ("phase", "ready", "cluster")
    search_fields = ("uid", "name", "resource")


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
