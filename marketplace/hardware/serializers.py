"""Hardware as REST documents. Sizes are bytes; money is decimal text with its currency."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from marketplace.billing.models import Price
from marketplace.billing.money import quote
from marketplace.hardware.models import Accelerator, Flavor, Region


class AcceleratorSerializer(serializers.ModelSerializer[Accelerator]):
    class Meta:
        model = Accelerator
        fields = (
            "slug",
            "name",
            "vendor",
            "family",
            "memory_bytes",
            "peak_tflops",
            "bandwidth_bytes_per_second",
            "cores",
            "source",
        )


class RegionSerializer(serializers.ModelSerializer[Region]):
    available = serializers.BooleanField(help_text="Whether it takes new workloads.")

    class Meta:
        model = Region
        fields = ("slug", "name", "country", "available")


@extend_schema_serializer(component_name="FlavorQuote")
class QuoteSerializer(serializers.Serializer[Any]):
    """The price of one replica. A quoted month has 730 hours."""

    region = serializers.CharField()
    currency = serializers.CharField(help_text="ISO 4217.")
    per_second = serializers.CharField()
    per_minute = serializers.CharField()
    per_hour = serializers.CharField()
    per_day = serializers.CharField()
    per_month = serializers.CharField()


class FlavorSerializer(serializers.ModelSerializer[Flavor]):
    id = serializers.CharField(source="public_id", read_only=True)
    accelerator = AcceleratorSerializer()
    regions = serializers.SerializerMethodField(help_text="Regions where it takes new workloads.")
    prices = serializers.SerializerMethodField(help_text="What you pay now, by region.")

    class Meta:
        model = Flavor
        fields = (
            "id",
            "slug",
            "name",
            "machine_class",
            "accelerator",
            "accelerator_count",
            "vcpus",
            "memory_bytes",
            "regions",
            "prices",
        )

    @extend_schema_field(serializers.ListField(child=serializers.CharField()))
    def get_regions(self, flavor: Flavor) -> list[str]:
        regions: list[str] = self.context["regions"].get(flavor.pk, [])
        return regions

    @extend_schema_field(QuoteSerializer(many=True))
    def get_prices(self, flavor: Flavor) -> list[dict[str, str]]:
        return [quote_of(price) for price in self.context["prices"].get(flavor.pk, [])]


def quote_of(price: Price) -> dict[str, str]:
    """A price as `QuoteSerializer` describes it."""
    quoted = asdict(quote(per_second=price.per_second, currency=price.currency))
    return {
        "region": price.region.slug,
        **{name: value if name == "currency" else f"{value.normalize():f}" for name, value in quoted.items()},
    }
