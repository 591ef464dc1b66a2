"""The REST documents of deployments, and of what is asked for when one is planned or made."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.validators import RegexValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from deployments.reconcile.rollout import canary_replicas
from deployments.serving.explanations import live_explanation, stored_explanation
from deployments.serving.facts import model_facts
from deployments.serving.models import Deployment
from deployments.serving.plan_serializers import QuoteSerializer
from deployments.serving.plans import ServingAsk, quoted
from deployments.serving.references import ModelReferenceField, NamedRowField
from deployments.serving.story_serializers import ConditionSerializer, ExplanationSerializer
from marketplace.catalog.precisions import BYTES_PER_VALUE
from marketplace.hardware.models import Flavor, MachineClass, Region
from marketplace.rest.reading import ReadSerializer
from marketplace.rest.serializers import StrictSerializer

DEFAULT_CONTEXT_LENGTH = 2048
"""Tokens; shorter where the model supports less."""
LONGEST_CONTEXT = 2**24
"""Tokens. More than any model has; where the model's own limit is known, that one holds."""
DEFAULT_CONCURRENCY = 4

NAME_VALIDATOR = RegexValidator(
    r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?\Z",
    "A name has 1 to 40 lower-case letters, digits and hyphens, starts with a letter and does not end with "
    "a hyphen, for example 'support-bot'.",
)


class ServingAskSerializer(StrictSerializer):
    """What to serve, and where. Leave flavor and region out to be placed where it fits best."""

    model = ModelReferenceField(help_text="Version id, model id, or publisher/model for its newest version.")
    flavor = NamedRowField(
        queryset=Flavor.objects.filter(enabled=True), required=False, allow_null=True, default=None
    )
    region = NamedRowField(queryset=Region.objects.all(), required=False, allow_null=True, default=None)
    replicas = serializers.IntegerField(min_value=1, max_value=100, default=1)
    context_length = serializers.IntegerField(
        min_value=1,
        max_value=LONGEST_CONTEXT,
        required=False,
        allow_null=True,
        default=None,
        help_text="Tokens of prompt and answer.",
    )
    max_concurrency = serializers.IntegerField(
        min_value=1, max_value=1024, default=DEFAULT_CONCURRENCY, help_text="Requests computed at once."
    )
    machine_class = serializers.ChoiceField(
        choices=MachineClass.choices, required=False, allow_null=True, default=None
    )
    precision = serializers.ChoiceField(
        choices=sorted(BYTES_PER_VALUE),
        required=False,
        allow_null=True,
        default=None,
        help_text="Of the recipe, for example int8; left out, never a quantized one.",
    )
    require_capacity = serializers.BooleanField(
        default=False, help_text="Refuse it when no node is free now, rather than let it wait."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        facts = model_facts(attrs["model"])
        longest = facts.context_length
        if attrs.get("context_length") is None:
            # Of a model that does not generate the runtime knows best: 0 = what it supports.
            usual = min(longest or DEFAULT_CONTEXT_LENGTH, DEFAULT_CONTEXT_LENGTH)
            attrs["context_length"] = usual if facts.generates else 0
        if longest and attrs["context_length"] > longest:
            raise serializers.ValidationError(
                {"context_length": f"{attrs['model'].model.name} supports at most {longest} tokens."}
            )
        return attrs

    def to_ask(self) -> ServingAsk:
        values = self.validated_data
        return ServingAsk(
            version=values["model"],
            **{
                name: values[name]
                for name in (
                    *("flavor", "region", "machine_class", "precision"),
                    *("replicas", "context_length", "max_concurrency", "require_capacity"),
                )
            },
        )


class DeploymentCreateSerializer(ServingAskSerializer):
    """A name, and either an accepted plan or what to serve."""

    name = serializers.CharField(validators=[NAME_VALIDATOR])
    plan = serializers.CharField(required=False, help_text="Id of an accepted plan (pln_…).")
    model = ModelReferenceField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        asked = set(self.initial_data) - {"name", "plan"}
        if "plan" in attrs:
            if asked:
                raise serializers.ValidationError(
                    dict.fromkeys(asked, "The plan already says this; leave it out.")
                )
            return attrs
        if "model" not in attrs:
            raise serializers.ValidationError({"model": "Name a model, or an accepted plan in 'plan'."})
        return super().validate(attrs)


class EndpointSerializer(serializers.Serializer[Any]):
    """How to call it with any OpenAI client."""

    base_url = serializers.CharField()
    model = serializers.CharField()


class CanarySerializer(serializers.Serializer[Any]):
    """A revision that answers a part of the requests beside the stable one."""

    weight = serializers.IntegerField(help_text="Percent of the requests.")
    revision = serializers.IntegerField()
    stable_revision = serializers.IntegerField()
    replicas = serializers.IntegerField(help_text="Of the canary; the stable revision keeps all of its own.")


class DeploymentSerializer(ReadSerializer[Deployment]):
    method_columns = (
        *("price__per_second", "price__currency"),
        *("canary_weight", "stable_revision", "explanation"),
    )

    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    state = serializers.CharField()
    desired_state = serializers.CharField()
    model = serializers.CharField(source="plan.spec.model", default=None, help_text="Version id.")
    flavor = serializers.CharField(source="flavor.slug")
    region = serializers.CharField(source="cluster.region.slug")
    replicas = serializers.IntegerField(source="desired_replicas")
    ready_replicas = serializers.IntegerField()
    target_revision = serializers.IntegerField()
    serving_revision = serializers.IntegerField(allow_null=True)
    strategy = serializers.CharField(help_text="How the revision aimed at takes over: rolling or recreate.")
    progress_deadline_seconds = serializers.IntegerField(
        source="progress_seconds", help_text="A new revision without progress for so long is given up."
    )
    canary = serializers.SerializerMethodField()
    generation = serializers.IntegerField()
    observed_generation = serializers.IntegerField()
    conditions = ConditionSerializer(many=True)
    degradations = serializers.ListField(child=serializers.DictField())
    explanation = serializers.SerializerMethodField()
    price = serializers.SerializerMethodField()
    endpoint = serializers.SerializerMethodField()
    plan = serializers.CharField(source="plan.public_id", default=None)
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    stop_requested_at = serializers.DateTimeField(allow_null=True)
    deleted_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(CanarySerializer(allow_null=True))
    def get_canary(self, deployment: Deployment) -> dict[str, Any] | None:
        if deployment.canary_weight is None:
            return None
        return {
            "weight": deployment.canary_weight,
            "revision": deployment.target_revision,
            "stable_revision": deployment.stable_revision,
            "replicas": canary_replicas(deployment.desired_replicas, weight=deployment.canary_weight),
        }

    @extend_schema_field(ExplanationSerializer(allow_null=True))
    def get_explanation(self, deployment: Deployment) -> dict[str, Any] | None:
        """Lists, whose rows are columns alone, leave out what would have to be looked up."""
        is_row = isinstance(deployment, Deployment)
        return live_explanation(deployment) if is_row else stored_explanation(deployment)

    def get_price(self, deployment: Deployment) -> QuoteSerializer:
        return quoted(  # type: ignore[return-value]  # the annotation is for the schema
            per_second=deployment.price.per_second,
            currency=deployment.price.currency,
            replicas=deployment.desired_replicas,
        )

    def get_endpoint(self, deployment: Deployment) -> EndpointSerializer:
        return {"base_url": f"{settings.GATEWAY_URL}/v1", "model": deployment.name}  # type: ignore[return-value]
