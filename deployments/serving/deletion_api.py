"""REST of deletions: how far one is, and the receipts of all that is gone."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from deployments.serving.deletion_serializers import DeletionReceiptSerializer, DeletionSerializer
from deployments.serving.models import Deletion, DeletionReceipt
from marketplace.accounts.models import Scope
from marketplace.rest.problems import Problem
from marketplace.rest.views import OrganizationViewSet


class DeletionActions(OrganizationViewSet):
    """What is told of the deletion of one workload, also after it is gone."""

    @extend_schema(responses=DeletionSerializer)
    @action(detail=True, methods=["get"], filterset_class=None)
    def deletion(self, request: Request, public_id: str) -> Response:
        """When it was asked for, its deadline, what is left, who holds it and, in the end, the receipt."""
        row: Any = self.get_object()
        found = Deletion.objects.filter(resource=row.public_id).first()
        if found is None:
            raise Problem(
                status=409,
                type="not-deleted",
                title="Not deleted",
                detail="Nobody has asked to delete this.",
            )
        return Response(DeletionSerializer(found).data)


class ReceiptFilter(django_filters.FilterSet):  # type: ignore[misc]  # has no type hints
    resource = django_filters.CharFilter()


class DeletionReceiptViewSet(mixins.RetrieveModelMixin, mixins.ListModelMixin, OrganizationViewSet):
    """Receipts of what was deleted: that nothing is left, and what it cost. They never change."""

    queryset = DeletionReceipt.objects.select_related("organization")
    serializer_class = DeletionReceiptSerializer
    filterset_class = ReceiptFilter
    required_scopes: ClassVar[dict[str, str]] = {"GET": Scope.READ}
