"""What staff see of workspaces: everything but what opens them, and nothing to change."""

from __future__ import annotations

from django.contrib import admin

from deployments.serving.admin import ReadOnlyAdmin
from deployments.workspaces.models import Workspace


@admin.register(Workspace)
class WorkspaceAdmin(ReadOnlyAdmin):
    list_display = ("name", "organization", "state", "desired_state", "framework", "flavor", "created_at")
    list_filter = ("state", "desired_state", "framework", "cluster")
    search_fields = ("name", "public_id", "organization__name", "organization__slug")
    list_select_related = ("organization", "framework", "flavor")
    exclude = ("token_hash",)
