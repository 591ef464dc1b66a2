"""REST of what things cost: the price list, what was used, and the intervals that explain it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Q, QuerySet
from django.utils import timezone
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Scope
from marketplace.billing.models import Price, UsageInterval
from marketplace.billing.money import seconds_of
from marketplace.billing.prices import prices_in_force
from marketplace.billing.serializers import (
    IntervalSerializer,
    PriceSerializer,
    StatementSerializer,
    UsageQuerySerializer,
)
from marketplace.billing.usage import OpenStretch, Selection, make_statement, open_line
from marketplace.rest.views import ActorView, OrganizationViewSet, SharedViewSet


class UsageView(ActorView):
    """What your organization has used, and what it costs."""

    required_scopes: ClassVar = {"GET": Scope.BILLING}

    @extend_schema(
        operation_id="usage_read",
        parameters=[UsageQuerySerializer],
        responses=StatementSerializer,
        tags=["usage"],
    )
    def get(self, request: Request) -> Response:
        """Lines by resource, phase, payer and price, with totals.

        What still runs is included as cost so far and marked `open`. A line is rounded once, however many
        intervals it is made of; `/usage/intervals/` lists them.
        """
        query = UsageQuerySerializer(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        asked = query.validated_data
        selection = Selection(organization=self.actor.organization, **asked)
        statement = make_statement(selection, now=timezone.now())
        document = {
            "as_of": statement.as_of,
            "period": {"since": asked["since"], "until": asked["until"]},
            "lines": statement.lines,
            "totals": statement.totals,
            "open_stretches": [explain(item) for item in statement.open],
        }
        return Response(StatementSerializer(document).data)


def explain(item: OpenStretch) -> dict[str, Any]:
    """An open stretch as `StretchSerializer` shows it."""
    line = open_line(item)
    return {
        "resource": line.key.resource,
        "resource_name": line.key.resource_name,
        "replica": item.usage.replica_uid,
        "start": item.stretch.start,
        "end": item.stretch.end,
        "seconds": seconds_of(item.stretch.duration),
        "phase": line.key.phase,
        "cause": line.key.cause,
        "flavor": line.key.flavor,
        "region": line.key.region,
        "price": line.key.price,
        "per_second": line.key.per_second,
        "currency": line.key.currency,
        "exact_amount": line.exact_amount,
    }


class IntervalFilter(filters.FilterSet):  # type: ignore[misc]  # the library has no types
    replica = filters.CharFilter(field_name="replica_uid")
    since = filters.IsoDateTimeFilter(field_name="during", lookup_expr="endswith__gt")
    until = filters.IsoDateTimeFilter(field_name="during", lookup_expr="startswith__lt")

    class Meta:
        model = UsageInterval
        fields = ("resource", "phase", "cause")


class UsageIntervalViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, OrganizationViewSet):
    """The ledger: every interval of every replica, with its phase, who pays and the price."""

    queryset = UsageInterval.objects.select_related("flavor", "region", "price")
    serializer_class = IntervalSerializer
    filterset_class = IntervalFilter
    required_scopes: ClassVar = {"GET": Scope.BILLING}


class PriceFilter(filters.FilterSet):  # type: ignore[misc]
    flavor = filters.CharFilter(field_name="flavor__slug")
    region = filters.CharFilter(field_name="region__slug")

    class Meta:
        model = Price
        fields = ("currency",)


class PriceViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, SharedViewSet):
    """What flavors cost. The list has the prices that hold for you now; an old one can be read by its id."""

    queryset = Price.objects.select_related("flavor", "region")
    serializer_class = PriceSerializer
    filterset_class = PriceFilter
    required_scopes: ClassVar = {"GET": Scope.READ}

    def get_queryset(self) -> QuerySet[Price]:
        prices: QuerySet[Price] = super().get_queryset()
        if getattr(self, "swagger_fake_view", False):
            return prices.none()
        own = self.actor.organization
        if self.action == "list":
            in_force = prices_in_force(organization=own, at=timezone.now())
            return prices.filter(pk__in=in_force.values("pk"))
        return prices.filter(Q(organization=None) | Q(organization=own))
