"""The staff's view of customers. What staff change here stands in the customer's audit trail, too.

Nothing is deleted here: people are deactivated and keys revoked, because bills and the trail refer to them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.db.models import Count, QuerySet
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest
from django.utils import timezone

from marketplace.accounts.actors import Actor
from marketplace.accounts.audit import record
from marketplace.accounts.issuing import revoke_key
from marketplace.accounts.members import revoke_keys
from marketplace.accounts.models import ApiKey, AuditEvent, Membership, Organization, User
from marketplace.accounts.roles import scopes_of


def staff_actor(request: HttpRequest, organization: Organization) -> Actor:
    """A member of staff acting on a customer's organization."""
    assert isinstance(request.user, User)
    return Actor(organization=organization, user=request.user, api_key=None, scopes=frozenset())


class ReadOnly:
    """Rows that the admin shows and nobody edits."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class UserCreationForm(AdminUserCreationForm[User]):
    class Meta:
        model = User
        fields = ("email",)

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User]):
    add_form = UserCreationForm
    ordering = ("email",)
    list_display = ("email", "first_name", "last_name", "is_staff", "is_active", "last_login")
    list_filter = ("is_staff", "is_active")
    search_fields = ("email", "first_name", "last_name")
    readonly_fields = ("last_login", "date_joined")
    fieldsets = [
        (None, {"fields": ["email", "password", "first_name", "last_name"]}),
        ("May do", {"fields": ["is_active", "is_staff", "is_superuser", "groups", "user_permissions"]}),
        ("Dates", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [
        (None, {"classes": ["wide"], "fields": ["email", "usable_password", "password1", "password2"]})
    ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MembershipInline(admin.TabularInline[Membership, Organization]):
    model = Membership
    fields = ("user", "role")
    autocomplete_fields = ("user",)
    extra = 0


@admin.register(Organization)
class OrganizationAdmin(admin.ModelAdmin[Organization]):
    list_display = ("name", "slug", "public_id", "member_count", "created_at")
    search_fields = ("name", "slug", "public_id")
    readonly_fields = ("public_id", "created_at")
    inlines: ClassVar = [MembershipInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        return super().get_queryset(request).annotate(member_count=Count("memberships"))

    @admin.display(description="members", ordering="member_count")
    def member_count(self, organization: Any) -> int:
        return int(organization.member_count)

    def get_readonly_fields(self, request: HttpRequest, obj: Organization | None = None) -> tuple[str, ...]:
        # Clusters and URLs are named by the slug: it is chosen once.
        return ("slug", "public_id", "created_at") if obj else ("public_id", "created_at")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Organization, form: ModelForm[Any], change: bool) -> None:
        super().save_model(request, obj, form, change)
        fields = {name: [form.initial.get(name), form.cleaned_data[name]] for name in form.changed_data}
        if fields:
            record(
                actor=staff_actor(request, obj),
                action="organization.change" if change else "organization.create",
                target=obj.public_id,
                changes=fields,
            )

    def save_formset(
        self, request: HttpRequest, form: Any, formset: BaseModelFormSet[Any, Any], change: bool
    ) -> None:
        super().save_formset(request, form, formset, change)
        added = [("member.add", row, [None, row.role]) for row in formset.new_objects]
        changed = [
            ("member.change_role", row, [each.initial.get("role"), row.role])
            for each in formset.initial_forms
            for row, _ in formset.changed_objects
            if each.instance == row
        ]
        removed = [("member.remove", row, [row.role, None]) for row in formset.deleted_objects]
        for action, row, role in added + changed + removed:
            record(
                actor=staff_actor(request, form.instance),
                action=action,
                target=row.public_id,
                changes={"email": [row.user.email] * 2, "role": role},
            )
        for _, row, (_, role) in changed + removed:
            # A secret leaves with its maker, and loses what its maker may no longer do.
            revoke_keys(
                actor=staff_actor(request, form.instance),
                membership=row,
                allowed=scopes_of(role) if role else frozenset(),
            )


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly, admin.ModelAdmin[ApiKey]):
    list_display = ("name", "organization", "prefix", "state", "created_by", "last_used_at", "expires_at")
    list_select_related = ("organization", "created_by")
    list_filter = ("organization",)
    search_fields = ("name", "prefix", "public_id")
    actions = ("revoke",)
    # Without the hash: what is not shown cannot be copied.
    fields = (
        "public_id",
        "organization",
        "name",
        "prefix",
        "scopes",
        "created_by",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    )

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        return key.state_at(timezone.now())

    # Revoking is no edit; whoever may see keys here may stop a leaked one.
    @admin.action(description="Revoke the selected keys", permissions=["view"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        live = list(keys.filter(revoked_at__isnull=True).select_related("organization"))
        for key in live:
            revoke_key(actor=staff_actor(request, key.organization), key=key)
        self.message_user(request, f"{len(live)} revoked.", messages.SUCCESS)


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnly, admin.ModelAdmin[AuditEvent]):
    list_display = ("at", "organization", "actor", "action", "target")
    list_select_related = ("organization",)
    list_filter = ("action", "organization")
    search_fields = ("target", "actor_user", "actor_key", "public_id")
    date_hierarchy = "at"

    @admin.display(description="actor")
    def actor(self, event: AuditEvent) -> str:
        return event.actor_user or event.actor_key
