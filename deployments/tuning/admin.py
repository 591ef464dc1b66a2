"""What staff see of fine-tuning: everything, and nothing to change."""

from __future__ import annotations

from django.contrib import admin

from deployments.serving.admin import ReadOnlyAdmin
from deployments.tuning.models import Dataset, FineTuningJob, TrainingEvent


@admin.register(FineTuningJob)
class FineTuningJobAdmin(ReadOnlyAdmin):
    list_display = ("name", "organization", "state", "base", "flavor", "created_at")
    list_filter = ("state", "flavor", "cluster")
    search_fields = ("name", "public_id", "organization__name")
    list_select_related = ("organization", "base__model", "flavor")


@admin.register(Dataset)
class DatasetAdmin(ReadOnlyAdmin):
    list_display = ("name", "organization", "created_at", "deleted_at")
    search_fields = ("name", "public_id", "organization__name")


@admin.register(TrainingEvent)
class TrainingEventAdmin(ReadOnlyAdmin):
    list_display = ("job", "type", "step", "at")
    list_filter = ("type",)
