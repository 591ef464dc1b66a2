"""The REST documents of deletions: what is left, who holds it, and the receipt."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from deployments.reconcile.deletion import holders_of
from deployments.serving.models import Deletion, DeletionReceipt


class BilledTotalSerializer(serializers.Serializer[Any]):
    """Decimals as text."""

    currency = serializers.CharField()
    amount = serializers.CharField()
    billed_seconds = serializers.CharField()


class ObservationSerializer(serializers.Serializer[Any]):
    """The look at the cluster that showed nothing."""

    cluster = serializers.CharField()
    observed_at = serializers.CharField()
    selector = serializers.CharField(help_text="Label by which everything of the resource is listed.")


class RemainderSerializer(serializers.Serializer[Any]):
    """One thing that is still on the cluster."""

    kind = serializers.ChoiceField(choices=["object", "pod", "volume"])
    name = serializers.CharField()
    going_since = serializers.CharField(allow_null=True, help_text="When it was asked to go; null = not yet.")
    finalizers = serializers.ListField(
        child=serializers.CharField(), help_text="Those of others than Kubernetes itself."
    )
    node = serializers.CharField(help_text="Of a pod.")


class HolderSerializer(serializers.Serializer[Any]):
    """Who keeps something from going."""

    finalizer = serializers.CharField()
    owner = serializers.CharField(help_text="Domain of the program that has to let go.")
    object = serializers.CharField()
    since = serializers.CharField(allow_null=True)


class DeletionReceiptSerializer(serializers.Serializer[DeletionReceipt]):
    """Says that nothing is left, and what it cost. Never changes."""

    id = serializers.CharField(source="public_id")
    organization = serializers.CharField(source="organization.public_id")
    resource = serializers.CharField()
    resource_name = serializers.CharField()
    requested_at = serializers.DateTimeField()
    requested_by = serializers.CharField()
    gone_at = serializers.DateTimeField()
    last_billed_at = serializers.DateTimeField(
        allow_null=True, help_text="When billing ended; null = nothing was billed."
    )
    totals = BilledTotalSerializer(many=True, help_text="All that was billed, by currency.")
    inventory = RemainderSerializer(many=True, help_text="What was left: nothing.")
    observation = ObservationSerializer()
    issued_at = serializers.DateTimeField()


class DeletionSerializer(serializers.Serializer[Deletion]):
    """A deletion, from the request to the receipt. Billing ended at the request."""

    id = serializers.CharField(source="public_id")
    resource = serializers.CharField()
    resource_name = serializers.CharField()
    requested_at = serializers.DateTimeField()
    requested_by = serializers.CharField()
    deadline = serializers.DateTimeField()
    gone_at = serializers.DateTimeField(allow_null=True)
    stuck_at = serializers.DateTimeField(allow_null=True, help_text="When it was found to be stuck.")
    inventory = RemainderSerializer(many=True, help_text="What is left on the cluster.")
    inventory_at = serializers.DateTimeField(allow_null=True, help_text="Since when exactly that is left.")
    holders = serializers.SerializerMethodField()
    receipt = serializers.SerializerMethodField()

    @extend_schema_field(HolderSerializer(many=True))
    def get_holders(self, deletion: Deletion) -> list[dict[str, Any]]:
        return holders_of(deletion.inventory)

    @extend_schema_field(DeletionReceiptSerializer(allow_null=True))
    def get_receipt(self, deletion: Deletion) -> dict[str, Any] | None:
        receipts = DeletionReceipt.objects.select_related("organization")
        receipt = receipts.filter(resource=deletion.resource).first()
        return None if receipt is None else dict(DeletionReceiptSerializer(receipt).data)
