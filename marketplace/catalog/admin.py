"""The staff's view of the catalog: entries, versions with their recipes, and imports with their progress."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html

from marketplace.accounts.audited_admin import AuditedAdmin, record_staff_change
from marketplace.accounts.models import User
from marketplace.catalog.imports import cancel_import, retry_import, start_import
from marketplace.catalog.models import Framework, License, Model, ModelImport, ModelVersion, Recipe
from marketplace.catalog.sources import SourceRefused, open_source
from marketplace.catalog.tasks import ring


@admin.register(License)
class LicenseAdmin(AuditedAdmin[License]):
    list_display = ("name", "slug", "commercial_use", "url")
    list_filter = ("commercial_use",)
    search_fields = ("name", "slug")


@admin.register(Framework)
class FrameworkAdmin(AuditedAdmin[Framework]):
    list_display = ("name", "version", "accelerator_family", "image", "listed")
    list_filter = ("accelerator_family", "listed")
    search_fields = ("name", "slug", "image")
    autocomplete_fields = ("license",)


class ShownOnly:
    """Rows below another that are shown there and changed elsewhere."""

    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class VersionInline(ShownOnly, admin.TabularInline[ModelVersion, Model]):
    model = ModelVersion
    fk_name = "model"
    fields = ("public_id", "revision", "precision", "parameters", "size", "published_at")
    readonly_fields = fields

    @admin.display(description="weights")
    def size(self, version: ModelVersion) -> str:
        return filesizeformat(version.weights_bytes) if version.weights_bytes else "not fetched"


class ImportInline(ShownOnly, admin.TabularInline[ModelImport, Model]):
    model = ModelImport
    fields = ("source", "requested_revision", "state", "progress", "error", "created_at")
    readonly_fields = fields
    ordering = ("-id",)

    @admin.display(description="progress")
    def progress(self, row: ModelImport) -> str:
        return progress_of(row)


class InStorage(admin.SimpleListFilter):
    title = "weights"
    parameter_name = "weights"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "In storage"), ("no", "Not fetched")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "yes":
                return queryset.filter(published__gt=0)
            case "no":
                return queryset.filter(published=0)
        return queryset


@admin.register(Model)
class ModelAdmin(AuditedAdmin[Model]):
    list_display = ("name", "publisher", "task", "license", "gated", "listed", "owner", "versions_published")
    list_filter = ("task", "listed", "gated", InStorage, "license", "publisher")
    search_fields = ("name", "publisher", "slug", "public_id", "description")
    list_select_related = ("license", "owner")
    autocomplete_fields = ("license", "owner")
    readonly_fields = ("public_id", "created_at")
    actions = ("import_from_source", "list_them", "unlist_them")
    inlines: ClassVar = [VersionInline, ImportInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        published = Count("versions", filter=Q(versions__published_at__isnull=False))
        return super().get_queryset(request).annotate(published=published)

    @admin.display(description="published versions", ordering="published")
    def versions_published(self, model: Any) -> int:
        return int(model.published)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # A published version stays for good, and with it its model: unlist it instead.
        return obj is not None and not obj.versions.exclude(published_at=None).exists()

    @admin.action(description="Import from their source (hub or folder)")
    def import_from_source(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        started = 0
        for model in queryset:
            try:
                row = _start(request, model=model)
            except SourceRefused as error:
                self.message_user(request, f"{model}: {error}", messages.ERROR)
            else:
                ring(row)
                started += 1
        if started:
            self.message_user(request, f"{started} imports are on their way; see Model imports for progress.")

    @admin.action(description="List: customers see them")
    def list_them(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        self._set_listed(request, queryset, listed=True)

    @admin.action(description="Unlist: customers no longer see them")
    def unlist_them(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        self._set_listed(request, queryset, listed=False)

    def _set_listed(self, request: HttpRequest, queryset: QuerySet[Model], *, listed: bool) -> None:
        for model in queryset.exclude(listed=listed):
            Model.objects.filter(pk=model.pk).update(listed=listed)
            changes = {"listed": [not listed, listed]}
            record_staff_change(request, action="model.change", target=model, changes=changes)


class RecipeInline(admin.TabularInline[Recipe, ModelVersion]):
    model = Recipe
    fields = (
        "engine",
        "accelerator_family",
        "image",
        "precision",
        "tensor_parallel",
        "min_memory_bytes",
        "options",
        "verified_at",
    )
    extra = 0


@admin.register(ModelVersion)
class ModelVersionAdmin(AuditedAdmin[ModelVersion]):
    """What a version says of its files is fixed once it is published; its recipes stay editable."""

    list_display = ("model", "short_revision", "precision", "parameters", "context_length", "published_at")
    list_filter = ("precision", "is_adapter", "model__task")
    search_fields = ("public_id", "revision", "model__name", "model__slug")
    list_select_related = ("model",)
    autocomplete_fields = ("model", "parent")
    inlines: ClassVar = [RecipeInline]

    @admin.display(description="revision", ordering="revision")
    def short_revision(self, version: ModelVersion) -> str:
        return version.revision[:12]

    def get_readonly_fields(self, request: HttpRequest, obj: ModelVersion | None = None) -> tuple[str, ...]:
        written_by_imports = (
            "public_id",
            "files",
            "storage_path",
            "weights_bytes",
            "published_at",
            "created_at",
        )
        if obj is None or obj.published_at is None:
            return written_by_imports
        return tuple(field.name for field in ModelVersion._meta.fields if field.name != "id")

    def has_delete_permission(self, request: HttpRequest, obj: ModelVersion | None = None) -> bool:
        return obj is not None and obj.published_at is None


class ImportForm(ModelForm[ModelImport]):
    class Meta:
        model = ModelImport
        fields = ("model", "source", "requested_revision")
        help_texts: ClassVar = {
            "source": "hub:owner/name, or folder: and an absolute path; empty = the entry's own source.",
            "requested_revision": "Branch, tag or commit of the hub; empty = main.",
        }

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "source" in self.fields:
            self.fields["source"].required = False

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        model = values.get("model")
        if model is not None:
            values["source"] = values.get("source") or model.source
            try:
                open_source(values["source"])
            except SourceRefused as error:
                raise ValidationError({"source": str(error)}) from error
        return values


@admin.register(ModelImport)
class ModelImportAdmin(admin.ModelAdmin[ModelImport]):
    """Adding one starts it."""

    form = ImportForm
    list_display = ("model", "source", "state", "progress", "attempts", "short_error", "created_at")
    list_filter = ("state",)
    search_fields = ("public_id", "source", "model__name", "model__slug")
    list_select_related = ("model",)
    autocomplete_fields = ("model",)
    actions = ("retry", "cancel")

    @admin.display(description="progress")
    def progress(self, row: ModelImport) -> str:
        return progress_of(row)

    @admin.display(description="error")
    def short_error(self, row: ModelImport) -> str:
        return row.error.partition("\n")[0][:120]

    def get_fields(self, request: HttpRequest, obj: ModelImport | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("model", "source", "requested_revision")
        shown = (
            "public_id",
            "model",
            "source",
            "requested_revision",
            "revision",
            "state",
            "progress",
            "error",
        )
        return (*shown, "retryable", "attempts", "next_attempt_at", "reported", "version", "finished_at")

    def get_readonly_fields(self, request: HttpRequest, obj: ModelImport | None = None) -> tuple[str, ...]:
        return self.get_fields(request, obj) if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: ModelImport | None = None) -> bool:
        # Actions need it for the list; a row itself is only shown.
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: ModelImport | None = None) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: ModelImport, form: ModelForm[ModelImport], change: bool
    ) -> None:
        row = _start(request, model=obj.model, source=obj.source, requested_revision=obj.requested_revision)
        obj.pk, obj.public_id = row.pk, row.public_id
        ring(row)

    @admin.action(description="Start again where they stopped")
    def retry(self, request: HttpRequest, queryset: QuerySet[ModelImport]) -> None:
        for row in queryset:
            if retry_import(row):
                record_staff_change(request, action="import.retry", target=row)
                ring(row)

    @admin.action(description="Cancel")
    def cancel(self, request: HttpRequest, queryset: QuerySet[ModelImport]) -> None:
        for row in queryset:
            if cancel_import(row, by=str(request.user)):
                record_staff_change(request, action="import.cancel", target=row)


def progress_of(row: ModelImport) -> str:
    """A bar and the bytes; a dash before the size is known."""
    if not row.bytes_total:
        return "–"
    return format_html(
        '<progress value="{}" max="{}"></progress> {} of {}',
        row.bytes_done,
        row.bytes_total,
        filesizeformat(row.bytes_done),
        filesizeformat(row.bytes_total),
    )


def _start(request: HttpRequest, **wish: Any) -> ModelImport:
    """Starts an import and notes who wanted it. Raises SourceRefused."""
    row = start_import(requested_by=request.user if isinstance(request.user, User) else None, **wish)
    record_staff_change(
        request,
        action="import.start",
        target=row,
        changes={"source": [None, row.source], "revision": [None, row.requested_revision]},
    )
    return row
