"""The accounts' objects as REST documents."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from marketplace.accounts.models import ApiKey, AuditEvent, Membership, Organization, Role, Scope
from marketplace.rest.serializers import StrictModelSerializer, StrictSerializer


class OrganizationSerializer(StrictModelSerializer):
    id = serializers.CharField(source="public_id", read_only=True)

    class Meta:
        model = Organization
        fields = ("id", "slug", "name", "created_at")
        read_only_fields = ("slug", "created_at")


class MemberSerializer(serializers.ModelSerializer[Membership]):
    id = serializers.CharField(source="public_id", read_only=True)
    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.get_full_name")

    class Meta:
        model = Membership
        fields = ("id", "email", "name", "role", "created_at")


class NewMemberSerializer(StrictSerializer):
    email = serializers.EmailField(max_length=254, help_text="Of somebody who has an account.")
    role = serializers.ChoiceField(choices=Role.choices)


class RoleSerializer(StrictSerializer):
    role = serializers.ChoiceField(choices=Role.choices)


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    id = serializers.CharField(source="public_id", read_only=True)
    state = serializers.SerializerMethodField()
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))
    created_by = serializers.EmailField(source="created_by.email", default=None, allow_null=True)

    class Meta:
        model = ApiKey
        fields: tuple[str, ...] = (
            "id",
            "name",
            "prefix",
            "state",
            "scopes",
            "created_by",
            "created_at",
            "expires_at",
            "revoked_at",
            "last_used_at",
        )

    @extend_schema_field({"type": "string", "enum": ["active", "expired", "revoked"]})
    def get_state(self, key: ApiKey) -> str:
        return key.state_at(timezone.now())


class IssuedApiKeySerializer(ApiKeySerializer):
    """A new key with its secret, which is in this one answer and nowhere else."""

    secret = serializers.CharField(
        allow_null=True,
        help_text="Shown once. null when the answer is repeated for an Idempotency-Key.",
    )

    class Meta(ApiKeySerializer.Meta):
        fields = (*ApiKeySerializer.Meta.fields, "secret")


class NewApiKeySerializer(StrictSerializer):
    name = serializers.CharField(max_length=80)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices),
        allow_empty=False,
        help_text="Not more than your own.",
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class AuditEventSerializer(serializers.ModelSerializer[AuditEvent]):
    id = serializers.CharField(source="public_id", read_only=True)
    actor = serializers.SerializerMethodField(help_text="E-mail address of the person or id of the API key.")
    changes: Any = serializers.DictField(child=serializers.ListField(), help_text="Field to [before, after].")

    class Meta:
        model = AuditEvent
        fields = ("id", "at", "actor", "action", "target", "changes")

    def get_actor(self, event: AuditEvent) -> str:
        return event.actor_user or event.actor_key


class MeSerializer(serializers.Serializer[Any]):
    user = serializers.EmailField(allow_null=True)
    api_key = ApiKeySerializer(allow_null=True)
    organization = OrganizationSerializer()
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=Scope.choices))
    organizations = OrganizationSerializer(many=True, help_text="That X-Organization may name.")
