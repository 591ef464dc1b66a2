"""The REST documents of plans: checks, memory, price, offers and alternatives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from deployments.serving.models import Plan
from marketplace.rest.reading import ReadSerializer


class CheckSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    passed = serializers.BooleanField()
    message = serializers.CharField()
    need = serializers.FloatField(allow_null=True)
    available = serializers.FloatField(allow_null=True)
    unit = serializers.CharField()
    who = serializers.CharField(
        allow_null=True, help_text="Who can make it pass: customer, provider, upstream."
    )
    remedy = serializers.CharField()
    blocking = serializers.BooleanField()


class FilterSerializer(serializers.Serializer[Any]):
    """How many node pools were left before and after each condition, and why the others dropped out."""

    name = serializers.CharField()
    before = serializers.IntegerField()
    dropped = serializers.IntegerField()
    left = serializers.IntegerField()
    reasons = serializers.ListField(child=serializers.CharField())
    blocking = serializers.BooleanField()


class QuoteSerializer(serializers.Serializer[Any]):
    """Decimals as text. A month is 730 hours."""

    currency = serializers.CharField()
    per_second = serializers.CharField()
    per_minute = serializers.CharField()
    per_hour = serializers.CharField()
    per_day = serializers.CharField()
    per_month = serializers.CharField()


class ErrorBandSerializer(serializers.Serializer[Any]):
    """By which share the estimate may be wrong, and how that is known."""

    below = serializers.FloatField()
    above = serializers.FloatField()
    source = serializers.CharField()  # type: ignore[assignment]  # REST framework takes it for a field


class MemorySerializer(serializers.Serializer[Any]):
    """Bytes."""

    weights = serializers.IntegerField()
    kv_cache = serializers.IntegerField()
    activations = serializers.IntegerField()
    framework = serializers.IntegerField()
    unknown = serializers.ListField(child=serializers.CharField())
    expected = serializers.IntegerField()
    low = serializers.IntegerField()
    high = serializers.IntegerField()
    available = serializers.IntegerField()
    band = ErrorBandSerializer()
    devices = serializers.IntegerField(help_text="That the model is spread over.")
    kv_devices = serializers.IntegerField(help_text="That keys and values are divided over.")
    high_per_device = serializers.IntegerField()
    available_per_device = serializers.IntegerField()


class EtaSerializer(serializers.Serializer[Any]):
    """Seconds. The parts are medians of earlier starts; null where nothing is known."""

    seconds = serializers.FloatField(allow_null=True)
    queue = serializers.FloatField(allow_null=True)
    provisioning = serializers.FloatField(allow_null=True, help_text="Null: no further node can be had.")
    preparing = serializers.FloatField(allow_null=True, help_text="Image and weights.")
    loading = serializers.FloatField(allow_null=True)
    source = serializers.CharField()  # type: ignore[assignment]  # REST framework takes it for a field
    cached_nodes = serializers.IntegerField(
        help_text="Nodes with room on which this version has started before."
    )


class OfferSerializer(serializers.Serializer[Any]):
    flavor = serializers.CharField()
    region = serializers.CharField()
    machine_class = serializers.CharField()
    precision = serializers.CharField()
    price = QuoteSerializer(allow_null=True, help_text="Of all replicas together.")
    free_now = serializers.IntegerField(allow_null=True, help_text="Replicas that have room now.")
    eta_seconds = serializers.FloatField(allow_null=True, help_text="Until the first answer; null = unknown.")
    eta = EtaSerializer()
    memory = MemorySerializer()


class AlternativeSerializer(OfferSerializer):
    """What else would be accepted: send its values in place of yours."""

    title = serializers.CharField()
    kind = serializers.CharField(help_text="What is given up: flavor, region, precision, replicas…")
    changes = serializers.DictField(child=serializers.DictField(), help_text="Field -> from, to.")
    has_room = serializers.BooleanField(help_text="Whether it could start now.")
    per_hour_difference = serializers.CharField(allow_null=True)


class PlanSerializer(ReadSerializer[Plan]):
    id = serializers.CharField(source="public_id")
    accepted = serializers.BooleanField(help_text="True: a deployment can be made from this plan.")
    spec = serializers.DictField(help_text="The request with every default filled in.")
    checks = CheckSerializer(many=True, source="answer.checks")
    filters = FilterSerializer(many=True, source="answer.filters", default=list)
    flavor = serializers.CharField(source="answer.flavor", default=None)
    region = serializers.CharField(source="answer.region", default=None)
    precision = serializers.CharField(source="answer.precision", default=None)
    price = QuoteSerializer(source="answer.price", default=None)
    eta_seconds = serializers.FloatField(source="answer.eta_seconds", default=None)
    memory = MemorySerializer(source="answer.memory", default=None)
    free_now = serializers.IntegerField(source="answer.free_now", default=None)
    eta = EtaSerializer(source="answer.eta", default=None)
    alternatives = AlternativeSerializer(many=True, source="answer.alternatives")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
