"""REST of what there is to run on: flavors with today's prices, regions, accelerators."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django_filters import rest_framework as filters
from rest_framework import mixins
from rest_framework.generics import get_object_or_404

from marketplace.billing.models import Price
from marketplace.billing.prices import prices_in_force
from marketplace.hardware.models import Accelerator, AcceleratorFamily, Flavor, MachineClass, Region
from marketplace.hardware.placement import open_pools
from marketplace.hardware.serializers import AcceleratorSerializer, FlavorSerializer, RegionSerializer
from marketplace.rest.problems import not_found
from marketplace.rest.views import SharedViewSet


class FlavorFilter(filters.FilterSet):  # type: ignore[misc]  # the library has no types
    family = filters.ChoiceFilter(field_name="accelerator__family", choices=AcceleratorFamily.choices)
    machine_class = filters.ChoiceFilter(choices=MachineClass.choices)
    accelerator = filters.CharFilter(field_name="accelerator__slug")
    region = filters.CharFilter(method="filter_region", label="Slug of a region where it takes workloads.")

    class Meta:
        model = Flavor
        fields: ClassVar[list[str]] = []

    def filter_region(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.filter(
            Exists(open_pools().filter(flavor=OuterRef("pk"), cluster__region__slug=value))
        )


class FlavorViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, SharedViewSet):
    """Sizes to choose from, with what you pay for each. One is read by its id or its slug."""

    queryset = Flavor.objects.filter(enabled=True).select_related("accelerator")
    serializer_class = FlavorSerializer
    filterset_class = FlavorFilter
    ordering = ("slug",)

    def get_object(self) -> Flavor:
        text = self.kwargs["public_id"]
        if "\x00" in text:
            raise not_found()
        flavor: Flavor = get_object_or_404(self.get_queryset(), Q(public_id=text) | Q(slug=text))
        return flavor

    def get_serializer_context(self) -> Mapping[str, Any]:
        context = super().get_serializer_context()
        if getattr(self, "swagger_fake_view", False):
            return context
        regions = defaultdict(list)
        for flavor, region in open_pools().order_by("pk").values_list("flavor", "cluster__region__slug"):
            regions[flavor].append(region)
        prices: dict[int, list[Price]] = defaultdict(list)
        for price in prices_in_force(organization=self.actor.organization, at=timezone.now()):
            prices[price.flavor_id].append(price)
        return {**context, "regions": regions, "prices": prices}


class RegionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, SharedViewSet):
    """Places to run in."""

    queryset = Region.objects.annotate(available=Exists(open_pools().filter(cluster__region=OuterRef("pk"))))
    serializer_class = RegionSerializer
    lookup_field = "slug"
    ordering = ("slug",)


class AcceleratorViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, SharedViewSet):
    """Chips, with the figures to compare them by. Peaks are dense, in TFLOPS by precision."""

    queryset = Accelerator.objects.all()
    serializer_class = AcceleratorSerializer
    filterset_fields = ("family", "vendor")
    lookup_field = "slug"
    ordering = ("slug",)
