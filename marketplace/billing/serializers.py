"""Usage and prices as REST documents. Amounts, prices and seconds are decimal strings, never floats."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from marketplace.billing.models import Price, UsageCause, UsageInterval, UsagePhase
from marketplace.billing.money import exact_amount, quote, seconds_of
from marketplace.billing.statement import BILLED_CAUSE
from marketplace.rest.serializers import StrictSerializer

MINUTE = Decimal("0.01")
"""Minutes are shown for reading, to a hundredth; seconds are what is multiplied."""


class DecimalText(serializers.Field[Any, Any, str, Any]):
    """A Decimal in plain digits: 0.000000001, never 1E-9."""

    def to_representation(self, value: Decimal) -> str:
        return f"{value:f}"


@extend_schema_field({"type": "string", "format": "decimal"})
class DecimalField(DecimalText):
    pass


class UsageQuerySerializer(StrictSerializer):
    """Which part of the usage. Times are ISO 8601; a date means its midnight, UTC."""

    resource = serializers.CharField(required=False, default="", help_text="Id of a deployment or job.")
    phase = serializers.ChoiceField(choices=UsagePhase.choices, required=False, default="")
    since = serializers.DateTimeField(
        required=False, default=None, input_formats=["iso-8601", "%Y-%m-%d"], help_text="From this moment on."
    )
    until = serializers.DateTimeField(
        required=False, default=None, input_formats=["iso-8601", "%Y-%m-%d"], help_text="Up to this moment."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["since"] and attrs["until"] and attrs["since"] >= attrs["until"]:
            raise serializers.ValidationError({"until": "The period must end after it begins ('since')."})
        return attrs


class LinePriceSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(source="price")
    per_second = DecimalField()
    currency = serializers.CharField()


class LineSerializer(serializers.Serializer[Any]):
    """One line of a statement."""

    resource = serializers.CharField(source="key.resource")
    resource_name = serializers.CharField(source="key.resource_name")
    phase = serializers.ChoiceField(UsagePhase.choices, source="key.phase")
    cause = serializers.ChoiceField(UsageCause.choices, source="key.cause", help_text="Who pays.")
    flavor = serializers.CharField(source="key.flavor")
    region = serializers.CharField(source="key.region")
    price = LinePriceSerializer(source="key")
    seconds = DecimalField()
    minutes = serializers.SerializerMethodField()
    billed = serializers.BooleanField(help_text="False: shown, and free of charge.")
    amount = DecimalField(help_text="As billed, rounded half to even to the currency's minor unit.")
    exact_amount = DecimalField(help_text="Before rounding.")
    currency = serializers.CharField(source="key.currency")
    open = serializers.BooleanField(source="is_open", help_text="True: still running, cost so far.")
    open_seconds = serializers.SerializerMethodField()

    @extend_schema_field({"type": "string", "format": "decimal"})
    def get_minutes(self, line: Any) -> str:
        return f"{(line.seconds / 60).quantize(MINUTE):f}"

    @extend_schema_field({"type": "string", "format": "decimal"})
    def get_open_seconds(self, line: Any) -> str:
        return f"{seconds_of(line.open):f}"


class TotalSerializer(serializers.Serializer[Any]):
    """All lines of one currency."""

    currency = serializers.CharField()
    amount = DecimalField()
    billed_seconds = DecimalField()
    unbilled_seconds = DecimalField()
    open = serializers.BooleanField(source="is_open")


class PeriodSerializer(serializers.Serializer[Any]):
    since = serializers.DateTimeField(allow_null=True)
    until = serializers.DateTimeField(allow_null=True)


class StretchSerializer(serializers.Serializer[Any]):
    """Time of one replica: what a bill is explained with."""

    resource = serializers.CharField()
    resource_name = serializers.CharField()
    replica = serializers.CharField()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField(help_text="Not part of it; of an open stretch: now.")
    seconds = DecimalField()
    phase = serializers.ChoiceField(UsagePhase.choices)
    cause = serializers.ChoiceField(UsageCause.choices, help_text="Who pays.")
    flavor = serializers.CharField()
    region = serializers.CharField()
    price = serializers.CharField(help_text="Id of the price.")
    per_second = DecimalField()
    currency = serializers.CharField()
    exact_amount = DecimalField(help_text="Of this stretch, before its line is rounded.")


class StatementSerializer(serializers.Serializer[Any]):
    """What was used in a period and what it costs."""

    as_of = serializers.DateTimeField()
    period = PeriodSerializer()
    lines = LineSerializer(many=True)
    totals = TotalSerializer(many=True)
    open_stretches = StretchSerializer(many=True, help_text="Included in the lines, not in the ledger yet.")


class IntervalSerializer(serializers.ModelSerializer[UsageInterval]):
    """One row of the ledger."""

    id = serializers.CharField(source="public_id")
    replica = serializers.CharField(source="replica_uid")
    start = serializers.DateTimeField(source="during.lower")
    end = serializers.DateTimeField(source="during.upper", help_text="Not part of it.")
    seconds = serializers.SerializerMethodField()
    flavor = serializers.CharField(source="flavor.slug")
    region = serializers.CharField(source="region.slug")
    price = serializers.CharField(source="price.public_id", help_text="Id of the price.")
    per_second = DecimalField(source="price.per_second")
    currency = serializers.CharField(source="price.currency")
    exact_amount = serializers.SerializerMethodField()

    class Meta:
        model = UsageInterval
        fields = (
            "id",
            "resource",
            "resource_name",
            "replica",
            "start",
            "end",
            "seconds",
            "phase",
            "cause",
            "flavor",
            "region",
            "price",
            "per_second",
            "currency",
            "exact_amount",
            "recorded_at",
        )

    @extend_schema_field({"type": "string", "format": "decimal"})
    def get_seconds(self, row: UsageInterval) -> str:
        return f"{seconds_of(_duration(row)):f}"

    @extend_schema_field({"type": "string", "format": "decimal"})
    def get_exact_amount(self, row: UsageInterval) -> str:
        price = row.price.per_second if row.cause == BILLED_CAUSE else Decimal(0)
        return f"{exact_amount(seconds=seconds_of(_duration(row)), per_second=price):f}"


class PriceSerializer(serializers.ModelSerializer[Price]):
    """What one replica of a flavor costs in a region."""

    id = serializers.CharField(source="public_id")
    flavor = serializers.CharField(source="flavor.slug")
    region = serializers.CharField(source="region.slug")
    per_second = DecimalField()
    per_minute = serializers.SerializerMethodField()
    per_hour = serializers.SerializerMethodField()
    per_month = serializers.SerializerMethodField(help_text="Of 730 hours, rounded to the minor unit.")
    valid_from = serializers.DateTimeField(source="valid.lower")
    valid_until = serializers.DateTimeField(source="valid.upper", allow_null=True)
    own = serializers.SerializerMethodField(help_text="True: agreed with your organization.")

    class Meta:
        model = Price
        fields = (
            "id",
            "flavor",
            "region",
            "currency",
            "per_second",
            "per_minute",
            "per_hour",
            "per_month",
            "valid_from",
            "valid_until",
            "own",
        )

    @extend_schema_field({"type": "string", "format": "decimal"})
    def get_per_minute(self, price: Price) -> str:
        return f"{quote(per_second=price.per_second, currency=price.currency).per_minute:f}"

    @extend_schema_field({"type": "string", "format": "decimal"})
    def get_per_hour(self, price: Price) -> str:
        return f"{quote(per_second=price.per_second, currency=price.currency).per_hour:f}"

    @extend_schema_field({"type": "string", "format": "decimal"})
    def get_per_month(self, price: Price) -> str:
        return f"{quote(per_second=price.per_second, currency=price.currency).per_month:f}"

    def get_own(self, price: Price) -> bool:
        return price.organization_id is not None


def _duration(row: UsageInterval) -> timedelta:
    duration: timedelta = row.during.upper - row.during.lower  # type: ignore[operator]  # closed: a constraint
    return duration
