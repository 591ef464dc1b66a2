"""REST of the catalog: models with versions and recipes, frameworks, licenses; and imports, for staff."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import transaction
from django.db.models import Exists, Prefetch, Q, QuerySet
from django.utils import timezone
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.actors import actor_of
from marketplace.accounts.audit import record
from marketplace.accounts.models import Scope, User
from marketplace.accounts.permissions import HasScope
from marketplace.catalog.access import accept_terms, accepted_terms
from marketplace.catalog.imports import start_import
from marketplace.catalog.models import Framework, License, Model, ModelImport, ModelVersion, TaskChoices
from marketplace.catalog.offers import offers_for, visible_models, with_runnable
from marketplace.catalog.removal import ModelInUse, NotYours, remove_model
from marketplace.catalog.serializers import (
    FrameworkSerializer,
    ImportSerializer,
    LicenseSerializer,
    ModelDetailSerializer,
    ModelSerializer,
    NewImportSerializer,
)
from marketplace.catalog.sources import SourceRefused
from marketplace.catalog.tasks import ring
from marketplace.rest.filters import YesNoFilter
from marketplace.rest.problems import Problem, invalid
from marketplace.rest.views import SharedViewSet


class ModelFilter(filters.FilterSet):  # type: ignore[misc]  # the library has no types
    task = filters.ChoiceFilter(choices=TaskChoices.choices)
    license = filters.CharFilter(field_name="license__slug")
    gated = YesNoFilter()
    commercial_use = YesNoFilter(field_name="license__commercial_use")
    tag = filters.CharFilter(field_name="tags", method="filter_tag", label="One of its tags, such as code.")
    search = filters.CharFilter(method="filter_search", label="Words in name, publisher or description.")
    runnable = YesNoFilter(label="Whether it can be deployed here and now.")
    private = YesNoFilter(field_name="owner", lookup_expr="isnull", exclude=True)

    class Meta:
        model = Model
        fields = ("publisher", "slug")

    def filter_tag(self, queryset: QuerySet[Model], name: str, value: str) -> QuerySet[Model]:
        return queryset.filter(tags__contains=[value])

    def filter_search(self, queryset: QuerySet[Model], name: str, value: str) -> QuerySet[Model]:
        for word in value.split():
            queryset = queryset.filter(
                Q(name__icontains=word)
                | Q(publisher__icontains=word)
                | Q(slug__icontains=word)
                | Q(description__icontains=word)
            )
        return queryset


class ModelViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, SharedViewSet):
    """Models to deploy or tune: everybody's, and your organization's own."""

    # Terms bind the whole organization.
    required_scopes: ClassVar = {"GET": Scope.READ, "POST": Scope.ADMIN, "DELETE": Scope.TUNE}

    queryset = Model.objects.all()
    filterset_class = ModelFilter
    ordering = ("publisher", "slug")

    def get_serializer_class(self) -> type[ModelSerializer]:
        return ModelSerializer if self.action == "list" else ModelDetailSerializer

    def get_queryset(self) -> QuerySet[Model]:
        if getattr(self, "swagger_fake_view", False):
            return Model.objects.none()
        versions = (
            ModelVersion.objects.order_by("-published_at", "-id")
            .select_related("parent")
            .prefetch_related("recipes", "parent__recipes")
        )
        return (
            with_runnable(visible_models(self.actor.organization))
            .annotate(terms_accepted=Exists(accepted_terms(self.actor.organization)))
            .select_related("license")
            .prefetch_related(Prefetch("versions", queryset=versions))
        )

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, public_id: str) -> Response:
        """Removes a model of your own. Its files go within some hours, unless another one shares them."""
        try:
            remove_model(actor=self.actor, model=self.get_object())
        except NotYours as error:
            raise Problem(
                status=403,
                type="not-yours",
                title="Not yours",
                detail=f"{error} Only models of your own, such as tuned ones, are yours to delete.",
            ) from error
        except ModelInUse as error:
            raise Problem(
                status=409,
                type="model-in-use",
                title="Model in use",
                detail=str(error),
                uses=[{"id": use.id, "name": use.name, "what": use.what} for use in error.uses],
            ) from error
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=ModelDetailSerializer)
    @action(detail=True, methods=["post"], url_path="accept-terms")
    def accept_terms(self, request: Request, public_id: str) -> Response:
        """Accepts the terms of a gated model for your organization, so that it can be deployed."""
        model = self.get_object()
        if not model.gated:
            raise Problem(
                status=409,
                type="not-gated",
                title="Not gated",
                detail=f"{model} has no terms to accept: it can be deployed as it is.",
            )
        with transaction.atomic():
            accept_terms(actor=self.actor, model=model)
        return Response(self.get_serializer(self.get_object()).data)

    def get_serializer_context(self) -> Mapping[str, Any]:
        context = super().get_serializer_context()
        if getattr(self, "swagger_fake_view", False):
            return context
        return {**context, "offers": offers_for(self.actor.organization, at=timezone.now())}


class FrameworkViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, SharedViewSet):
    """Ready-made development environments."""

    queryset = Framework.objects.filter(listed=True).select_related("license")
    serializer_class = FrameworkSerializer
    filterset_fields = ("accelerator_family",)
    lookup_field = "slug"
    ordering = ("slug",)


class LicenseFilter(filters.FilterSet):  # type: ignore[misc]  # the library has no types
    commercial_use = YesNoFilter()

    class Meta:
        model = License
        fields: ClassVar[list[str]] = []


class LicenseViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, SharedViewSet):
    """Licenses of models and frameworks."""

    queryset = License.objects.all()
    serializer_class = LicenseSerializer
    filterset_class = LicenseFilter
    lookup_field = "slug"
    lookup_value_regex = "[^/]+"
    ordering = ("slug",)


class IsStaff(HasScope):
    """The provider's own people, signed in or by a key they made."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not super().has_permission(request, view):
            return False
        if not (isinstance(request.user, User) and request.user.is_staff and request.user.is_active):
            raise Problem(
                status=403,
                type="staff-only",
                title="For the provider's staff",
                detail="Imports are made by the provider's staff. Ask them for the model you miss.",
            )
        return True


class ImportViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, SharedViewSet):
    """Imports of models into storage, for the provider's staff."""

    queryset = ModelImport.objects.select_related("model", "version", "requested_by")
    serializer_class = ImportSerializer
    permission_classes = (IsStaff,)
    required_scopes: ClassVar = {"GET": Scope.READ, "POST": Scope.ADMIN}
    filterset_fields = ("state",)

    @extend_schema(request=NewImportSerializer, responses={202: ImportSerializer})
    def create(self, request: Request) -> Response:
        """Starts an import, or gives the unfinished one that already does the same."""
        wish = NewImportSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        values = wish.validated_data
        try:
            with transaction.atomic():
                row = start_import(
                    model=values["model"],
                    source=values["source"],
                    requested_revision=values["revision"],
                    requested_by=request.user if isinstance(request.user, User) else None,
                )
                record(
                    actor=actor_of(request),
                    action="import.start",
                    target=row.public_id,
                    changes={"source": [None, row.source], "revision": [None, row.requested_revision]},
                )
        except SourceRefused as error:
            raise invalid([{"field": "source", "message": str(error)}]) from error
        ring(row)
        return Response(ImportSerializer(row).data, status=status.HTTP_202_ACCEPTED)
