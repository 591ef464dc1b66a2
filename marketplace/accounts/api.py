"""REST of the organization: itself, its members, API keys and audit trail, and who is asking."""

from __future__ import annotations

from typing import Any, ClassVar

from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts import issuing, members
from marketplace.accounts.models import ApiKey, AuditEvent, Membership, Scope
from marketplace.accounts.serializers import (
    ApiKeySerializer,
    AuditEventSerializer,
    IssuedApiKeySerializer,
    MemberSerializer,
    MeSerializer,
    NewApiKeySerializer,
    NewMemberSerializer,
    OrganizationSerializer,
    RoleSerializer,
)
from marketplace.rest.views import ActorView, OrganizationViewSet


class MeView(ActorView):
    """Who you are to the API."""

    @extend_schema(operation_id="me", responses=MeSerializer, tags=["me"])
    def get(self, request: Request) -> Response:
        actor = self.actor
        mine = actor.user.organizations.order_by("name") if actor.user else [actor.organization]
        me = {
            "user": actor.user.email if actor.user else None,
            "api_key": actor.api_key,
            "organization": actor.organization,
            "scopes": sorted(actor.scopes),
            "organizations": mine,
        }
        return Response(MeSerializer(me).data)


class OrganizationView(ActorView):
    """Your organization."""

    @extend_schema(operation_id="organization_read", responses=OrganizationSerializer, tags=["organization"])
    def get(self, request: Request) -> Response:
        return Response(OrganizationSerializer(self.actor.organization).data)

    @extend_schema(
        operation_id="organization_rename",
        request=OrganizationSerializer,
        responses=OrganizationSerializer,
        tags=["organization"],
    )
    def patch(self, request: Request) -> Response:
        """Changes the name. The slug stays."""
        wish = OrganizationSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        renamed = members.rename_organization(actor=self.actor, name=wish.validated_data["name"])
        return Response(OrganizationSerializer(renamed).data)


class MemberViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OrganizationViewSet):
    """People of your organization and their roles."""

    queryset = Membership.objects.select_related("user", "organization")
    serializer_class = MemberSerializer
    filterset_fields = ("role",)

    @extend_schema(request=NewMemberSerializer, responses={201: MemberSerializer})
    def create(self, request: Request) -> Response:
        """Adds somebody who has an account."""
        wish = NewMemberSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        membership = members.add_member(actor=self.actor, **wish.validated_data)
        return Response(MemberSerializer(membership).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=RoleSerializer, responses=MemberSerializer)
    def partial_update(self, request: Request, public_id: str) -> Response:
        """Changes the role. API keys that the member made and the new role does not cover are revoked."""
        membership: Membership = self.get_object()
        wish = RoleSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        changed = members.change_role(
            actor=self.actor, membership=membership, role=wish.validated_data["role"]
        )
        return Response(MemberSerializer(changed).data)

    def destroy(self, request: Request, public_id: str) -> Response:
        """Removes a member and revokes the API keys they made. The last owner cannot be removed."""
        members.remove_member(actor=self.actor, membership=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)


class ApiKeyViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OrganizationViewSet):
    """Secrets for programs. Revoked keys stay in the list."""

    queryset = ApiKey.objects.select_related("created_by")
    serializer_class = ApiKeySerializer
    shown_once: ClassVar = frozenset({"secret"})

    @extend_schema(request=NewApiKeySerializer, responses={201: IssuedApiKeySerializer})
    def create(self, request: Request) -> Response:
        """Issues a key. Its secret is in this answer and never shown again."""
        wish = NewApiKeySerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        key, secret = issuing.create_key(actor=self.actor, **wish.validated_data)
        issued: dict[str, Any] = {**ApiKeySerializer(key).data, "secret": secret}
        return Response(issued, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, public_id: str) -> Response:
        """Revokes a key, now and for good."""
        issuing.revoke_key(actor=self.actor, key=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)


class AuditEventFilter(filters.FilterSet):  # type: ignore[misc]  # the library has no types
    since = filters.IsoDateTimeFilter(field_name="at", lookup_expr="gte")
    until = filters.IsoDateTimeFilter(field_name="at", lookup_expr="lt")

    class Meta:
        model = AuditEvent
        fields = ("action", "target")


class AuditEventViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OrganizationViewSet):
    """Who changed what, and when; newest first. Nothing is ever removed from it."""

    queryset = AuditEvent.objects.all()
    serializer_class = AuditEventSerializer
    filterset_class = AuditEventFilter
    required_scopes: ClassVar = {"GET": Scope.READ}
