"""The REST documents of revisions: changes and how they roll out, what they would mean, and going back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from deployments.serving.differences import facts_of_revision, find_differences
from deployments.serving.models import Deployment, Revision, Strategy
from deployments.serving.plan_serializers import QuoteSerializer
from deployments.serving.plans import ask_of
from deployments.serving.references import ModelReferenceField, NamedRowField
from deployments.serving.rollouts import RolloutAsk
from deployments.serving.serializers import DeploymentSerializer, ServingAskSerializer
from marketplace.catalog.precisions import BYTES_PER_VALUE
from marketplace.hardware.models import Flavor, Region
from marketplace.rest.serializers import StrictSerializer

ROLLOUT_FIELDS = frozenset({"strategy", "canary", "progress_deadline_seconds"})


class CanaryAskSerializer(StrictSerializer):
    weight = serializers.IntegerField(
        min_value=1, max_value=99, help_text="Percent of the requests that the new revision answers."
    )


class RolloutAskSerializer(StrictSerializer):
    """How a new revision takes the old one's place."""

    strategy = serializers.ChoiceField(
        choices=Strategy.choices,
        required=False,
        help_text="rolling: the old revision serves until the new one is ready, which needs room for both; "
        "recreate: it goes first, which means downtime. Rolling if left out.",
    )
    canary = CanaryAskSerializer(
        required=False, help_text="Both revisions serve until the new one is promoted or aborted."
    )
    progress_deadline_seconds = serializers.IntegerField(
        min_value=30,
        max_value=86_400,
        required=False,
        help_text="A new revision that makes no progress for so long is given up: the old one serves on.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        require_one_way(attrs)
        return attrs

    def to_rollout(self) -> RolloutAsk:
        return rollout_of(self.validated_data)


def require_one_way(attrs: dict[str, Any]) -> None:
    if "canary" in attrs and attrs.get("strategy") == Strategy.RECREATE:
        raise serializers.ValidationError(
            {"strategy": "A canary runs beside the old revision, which cannot go first then: leave it out."}
        )


def rollout_of(values: dict[str, Any]) -> RolloutAsk:
    canary = values.get("canary")
    return RolloutAsk(
        strategy=values.get("strategy"),
        canary_weight=canary["weight"] if canary else None,
        progress_seconds=values.get("progress_deadline_seconds"),
    )


class DeploymentChangeSerializer(ServingAskSerializer):
    """What to change, and how; what is left out stays."""

    model = ModelReferenceField(required=False)
    replicas = serializers.IntegerField(min_value=1, max_value=100, required=False)
    max_concurrency = serializers.IntegerField(min_value=1, max_value=1024, required=False)
    flavor = NamedRowField(queryset=Flavor.objects.filter(enabled=True), required=False)
    region = NamedRowField(queryset=Region.objects.all(), required=False)
    machine_class = None  # type: ignore[assignment]  # removes the field: a flavor has one
    precision = serializers.ChoiceField(choices=sorted(BYTES_PER_VALUE), required=False)
    require_capacity = serializers.BooleanField(required=False)
    strategy = RolloutAskSerializer().fields["strategy"]
    canary = CanaryAskSerializer(required=False)
    progress_deadline_seconds = RolloutAskSerializer().fields["progress_deadline_seconds"]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not self.initial_data:
            raise serializers.ValidationError(
                "Say what to change: model, flavor, replicas, context_length or max_concurrency."
            )
        require_one_way(attrs)
        wished = ask_of(self.context["deployment"])
        merged = {
            # What runs may be scaled and changed also after staff took its model off the list.
            "model": attrs.get("model", wished.version),
            "flavor": attrs.get("flavor", wished.flavor),
            "region": attrs.get("region", wished.region),
            "replicas": attrs.get("replicas", wished.replicas),
            "context_length": attrs.get("context_length") or wished.context_length or None,
            "max_concurrency": attrs.get("max_concurrency", wished.max_concurrency),
            "machine_class": None,
            "precision": attrs.get("precision", wished.precision),
            "require_capacity": attrs.get("require_capacity", False),
        }
        how = {name: value for name, value in attrs.items() if name in ROLLOUT_FIELDS}
        return super().validate(merged) | how

    def to_rollout(self) -> RolloutAsk:
        return rollout_of(self.validated_data)


class RollbackSerializer(RolloutAskSerializer):
    """Which revision to go back to, and how. With `dry_run` nothing is changed."""

    revision = serializers.IntegerField(min_value=1, max_value=2**31 - 1)
    dry_run = serializers.BooleanField(default=False)


class DifferenceSerializer(serializers.Serializer[Any]):
    """One field of a revision that differs. null = not set."""

    field = serializers.CharField()
    before = serializers.JSONField()
    after = serializers.JSONField()


class ReasonSerializer(serializers.Serializer[Any]):
    """Why it is not possible, and what would help."""

    name = serializers.CharField()
    message = serializers.CharField()
    remedy = serializers.CharField()


class PricesSerializer(serializers.Serializer[Any]):
    """Of all replicas together."""

    now = QuoteSerializer()
    then = QuoteSerializer()
    meanwhile = QuoteSerializer(
        allow_null=True, help_text="While both revisions run; null = there is no such time."
    )


class RolloutSerializer(serializers.Serializer[Any]):
    """What the change of revisions needs, and what it means for those who call the model."""

    strategy = serializers.CharField()
    canary_weight = serializers.IntegerField(allow_null=True)
    old_replicas = serializers.IntegerField(help_text="Of the old revision while the new one comes up.")
    new_replicas = serializers.IntegerField()
    replicas_at_once = serializers.IntegerField()
    needed = serializers.IntegerField(help_text="Replicas that there must be room for beside what runs now.")
    free = serializers.IntegerField(allow_null=True, help_text="Replicas there is room for; null = unknown.")
    has_room = serializers.BooleanField(allow_null=True)
    downtime_seconds = serializers.FloatField(
        allow_null=True, help_text="How long nothing answers; null = nobody can tell."
    )
    message = serializers.CharField()
    remedy = serializers.CharField()


class PreviewSerializer(serializers.Serializer[Any]):
    """What a change would mean. Nothing was changed."""

    possible = serializers.BooleanField()
    reasons = ReasonSerializer(many=True, help_text="Why it is not possible; empty if it is.")
    differences = DifferenceSerializer(many=True)
    price = PricesSerializer(allow_null=True)
    rollout = RolloutSerializer(allow_null=True, help_text="null = no new revision would be made.")
    plan = serializers.CharField(allow_null=True, help_text="Id of the plan that was made for it (pln_…).")


class RollbackAnswerSerializer(serializers.Serializer[Any]):
    """With `dry_run` what it would mean, and without what it has become."""

    dry_run = serializers.BooleanField()
    preview = PreviewSerializer()
    deployment = DeploymentSerializer(allow_null=True)


class RevisionSerializer(serializers.Serializer[Revision]):
    """One specification that the deployment has had. The context holds `deployment`, and in `revisions` by
    number those that this one and its predecessors are among."""

    number = serializers.IntegerField()
    state = serializers.SerializerMethodField()
    differences = serializers.SerializerMethodField(help_text="From the one before that was not aborted.")
    model = serializers.CharField(source="version.public_id")
    flavor = serializers.CharField(source="flavor.slug")
    image = serializers.CharField(source="spec.image")
    environment = serializers.DictField(source="spec.environment")
    author = serializers.CharField()
    created_at = serializers.DateTimeField()
    served_at = serializers.DateTimeField(allow_null=True, help_text="When it first answered requests.")
    failed_at = serializers.DateTimeField(allow_null=True, help_text="When it was given up.")
    failure = serializers.SerializerMethodField()

    def get_state(self, revision: Revision) -> str:
        return state_of(revision, self.context["deployment"])

    @extend_schema_field(DifferenceSerializer(many=True))
    def get_differences(self, revision: Revision) -> list[dict[str, Any]]:
        deployment, revisions = self.context["deployment"], self.context["revisions"]
        # What was taken back is nothing that a later one was changed from.
        earlier = [revisions[number] for number in sorted(revisions) if number < revision.number]
        kept = [item for item in earlier if state_of(item, deployment) != "aborted"]
        if not kept:
            return []
        before = kept[-1]
        found = find_differences(facts_of_revision(before), facts_of_revision(revision))
        return [asdict(item) for item in found]

    @extend_schema_field(ReasonSerializer(allow_null=True))
    def get_failure(self, revision: Revision) -> dict[str, str] | None:
        if revision.failed_at is None:
            return None
        return {"name": revision.failure["reason"], "message": revision.failure["message"], "remedy": ""}


def state_of(revision: Revision, deployment: Deployment) -> str:
    """serving, target, failed, aborted (it never served: taken back, or overtaken by a newer one) or
    retired."""
    if revision.number == deployment.serving_revision:
        return "serving"
    if revision.failed_at is not None:
        return "failed"
    if revision.number == deployment.target_revision:
        return "target"
    has_served = revision.served_at is not None or revision.number == deployment.fallback_revision
    return "retired" if has_served else "aborted"
