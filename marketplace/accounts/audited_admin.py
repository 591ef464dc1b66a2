"""An admin page whose every change stands in the audit trail: who changed what, from what to what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from django.contrib import admin
from django.db.models import Model, QuerySet, URLField
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest

from marketplace.accounts.models import AuditEvent, User

Row = TypeVar("Row", bound=Model)


def record_staff_change(
    request: HttpRequest, *, action: str, target: Model, changes: Mapping[str, Any] | None = None
) -> None:
    """Notes a change of something that belongs to no organization, such as the catalog."""
    assert isinstance(request.user, User)
    AuditEvent.objects.create(
        organization=None,
        actor_user=request.user.email,
        action=action,
        target=_name_of(target),
        changes=dict(changes or {}),
    )


class AuditedAdmin(admin.ModelAdmin[Row]):
    """Records additions, changes and deletions of the row and of the rows below it (inlines)."""

    formfield_overrides: ClassVar = {URLField: {"assume_scheme": "https"}}

    def save_model(self, request: HttpRequest, obj: Row, form: ModelForm[Any], change: bool) -> None:
        super().save_model(request, obj, form, change)
        changes = _changes_of(form)
        if changes:
            action = f"{obj._meta.model_name}.{'change' if change else 'create'}"
            record_staff_change(request, action=action, target=obj, changes=changes)

    def delete_model(self, request: HttpRequest, obj: Row) -> None:
        record_staff_change(request, action=f"{obj._meta.model_name}.delete", target=obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Row]) -> None:
        for obj in queryset:
            self.delete_model(request, obj)

    def save_formset(
        self, request: HttpRequest, form: Any, formset: BaseModelFormSet[Any, Any], change: bool
    ) -> None:
        super().save_formset(request, form, formset, change)
        forms = {id(each.instance): each for each in formset.forms}
        for row in formset.new_objects:
            record_staff_change(
                request,
                action=f"{row._meta.model_name}.create",
                target=row,
                changes=_changes_of(forms[id(row)]),
            )
        for row, _ in formset.changed_objects:
            record_staff_change(
                request,
                action=f"{row._meta.model_name}.change",
                target=row,
                changes=_changes_of(forms[id(row)]),
            )
        for row in formset.deleted_objects:
            record_staff_change(request, action=f"{row._meta.model_name}.delete", target=row)


def _name_of(row: Model) -> str:
    """Public id, else slug, else the key: at most 40 characters."""
    name = getattr(row, "public_id", "") or getattr(row, "slug", "") or f"{row._meta.model_name} {row.pk}"
    return str(name)[:40]


def _changes_of(form: Any) -> dict[str, list[Any]]:
    """Field -> [before, after]. An empty JSON field counts as changed for its form, though it is not."""
    changes = {
        name: [_plain(form.initial.get(name)), _plain(form.cleaned_data.get(name))]
        for name in form.changed_data
    }
    return {name: values for name, values in changes.items() if values[0] != values[1]}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | str) else str(value)
