"""How a request names a model, a flavor or a region, and what it is told when there is none of that name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Q, QuerySet
from rest_framework import serializers

from marketplace.accounts.models import Organization
from marketplace.catalog.access import obstacle_to_import
from marketplace.catalog.models import ModelVersion
from marketplace.catalog.offers import visible_models
from marketplace.statements import Given, Statement

NAMES_SHOWN = 20
"""Of the names that there are, in a message about one that there is not."""


def visible_versions(organization: Organization | Given) -> QuerySet[ModelVersion]:
    """Published versions of public models and of the organization's own."""
    return (
        ModelVersion.objects.filter(published_at__isnull=False, model__deleted_at__isnull=True)
        .filter(Q(model__owner=None, model__listed=True) | Q(model__owner=organization))
        .select_related("model__license", "parent__model__license")
    )


_named_versions = Statement(
    lambda: (
        visible_versions(Given("organization"))
        .filter(
            Q(public_id=Given("reference"))
            | Q(model__public_id=Given("reference"))
            | Q(model__publisher=Given("publisher"), model__slug=Given("slug"))
        )
        .order_by("-published_at")[:1]
    )
)


def find_version(reference: str, *, organization: Organization) -> ModelVersion:
    """The version that a customer names: `mdv_…`, or the newest of `mdl_…` or `publisher/model`."""
    publisher, _, slug = reference.partition("/")
    found = _named_versions.objects(
        organization=organization.pk, reference=reference, publisher=publisher, slug=slug
    )
    if not found:
        named = Q(public_id=reference) | Q(publisher=publisher, slug=slug)
        model = visible_models(organization).filter(named).first()
        if model is not None:
            obstacle = obstacle_to_import(model)
            raise serializers.ValidationError(
                f"No version of {model} can be deployed yet. {obstacle.message} {obstacle.remedy} "
                "GET /api/v1/models/?runnable=true lists what can be deployed now."
            )
        raise serializers.ValidationError(
            f"No published model is called {reference!r}. GET /api/v1/models/ lists what there is; write "
            "a model's id (mdl_…), a version's id (mdv_…) or publisher/model."
        )
    return found[0]


class ModelReferenceField(serializers.CharField):
    """A version by its id, or a model by id or `publisher/model`, whose newest version is meant."""

    def to_internal_value(self, data: Any) -> Any:
        return find_version(super().to_internal_value(data), organization=self.context["actor"].organization)


class NamedRowField(serializers.SlugRelatedField[Any]):
    """A row named by its slug. The message lists the slugs there are."""

    def __init__(self, **options: Any) -> None:
        super().__init__(slug_field="slug", **options)

    def to_internal_value(self, data: Any) -> Any:
        rows = self.get_queryset()
        assert rows is not None  # every use declares it
        found = rows.filter(slug=data).first() if isinstance(data, str) and "\x00" not in data else None
        if found is None:
            names = _listed(list(rows.order_by("slug").values_list("slug", flat=True)))
            raise serializers.ValidationError(f"{data!r} does not exist. There are: {names}.")
        return found


def _listed(names: Sequence[str]) -> str:
    """For a message: the first NAMES_SHOWN, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    shown = ", ".join(names[:NAMES_SHOWN]) or "none"
    return f"{shown} and {more} more" if more > 0 else shown
