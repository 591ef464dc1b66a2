"""The REST documents of plans and deployments: what may be sent, and what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.validators import RegexValidator
from django.db.models import Q, QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from deployments.reconcile.explanation import Fixer, Why
from deployments.reconcile.rollout import canary_replicas
from deployments.reconcile.timeline import Step
from deployments.serving.explanations import live_explanation, stored_explanation
from deployments.serving.facts import model_facts
from deployments.serving.models import Deployment, Event, Plan, PostMortem
from deployments.serving.plans import ServingAsk, quoted
from deployments.serving.workload import Workload
from marketplace.accounts.models import Organization
from marketplace.catalog.access import obstacle_to_import
from marketplace.catalog.models import ModelVersion
from marketplace.catalog.offers import visible_models
from marketplace.catalog.precisions import BYTES_PER_VALUE
from marketplace.hardware.models import Flavor, MachineClass, Region
from marketplace.rest.reading import ReadSerializer
from marketplace.rest.serializers import StrictSerializer
from marketplace.statements import Given, Statement

DEFAULT_CONTEXT_LENGTH = 2048
"""Tokens; shorter where the model supports less."""
LONGEST_CONTEXT = 2**24
"""Tokens. More than any model has; where the model's own limit is known, that one holds."""
DEFAULT_CONCURRENCY = 4
NAMES_SHOWN = 20
"""Of the names that there are, in a message about one that there is not."""

NAME_VALIDATOR = RegexValidator(
    r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?\Z",
    "A name has 1 to 40 lower-case letters, digits and hyphens, starts with a letter and does not end with "
    "a hyphen, for example 'support-bot'.",
)


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


class ConditionSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    status = serializers.CharField()
    reason = serializers.CharField()
    message = serializers.CharField()
    since = serializers.CharField()


class NumberSerializer(serializers.Serializer[Any]):
    """One quantity that decides. Null = not known, or no limit."""

    name = serializers.CharField(help_text="Kubernetes' resource name, or nodes.")
    unit = serializers.CharField(help_text="cores, bytes, devices, pods or nodes.")
    need = serializers.FloatField(allow_null=True, help_text="Of one replica.")
    free = serializers.FloatField(allow_null=True, help_text="The most that any one node has left.")
    quota = serializers.FloatField(allow_null=True, help_text="What you may hold at once.")
    short_nodes = serializers.IntegerField(allow_null=True, help_text="Nodes that have too little.")


class ActionSerializer(serializers.Serializer[Any]):
    """A way out, applicable by one call."""

    id = serializers.CharField()
    title = serializers.CharField()
    method = serializers.CharField()
    endpoint = serializers.CharField()
    body = serializers.DictField()
    change = serializers.DictField(help_text="What it changes of the wish, as PATCH takes it.")
    effect = serializers.CharField(help_text="What it brings, for example: free now: 3.")
    per_hour_before = serializers.CharField(help_text="Of all replicas.")
    per_hour_after = serializers.CharField()
    currency = serializers.CharField()
    price = QuoteSerializer(allow_null=True, help_text="What it would cost then; null = nothing changes.")
    eta_seconds = serializers.FloatField(allow_null=True, help_text="Until the first answer then.")


class ActionAskSerializer(StrictSerializer):
    action = serializers.CharField(max_length=100, help_text="Id of an action of the explanation.")


class ExplanationSerializer(serializers.Serializer[Any]):
    """Why it does not run, or not as asked."""

    reason = serializers.ChoiceField(choices=[why.value for why in Why])
    state = serializers.CharField(help_text="The state that this reason goes with.")
    who = serializers.ChoiceField(choices=[who.value for who in Fixer], help_text="Who can change it.")
    retry_helps = serializers.BooleanField(help_text="Whether waiting or trying again can help.")
    message = serializers.CharField()
    numbers = NumberSerializer(many=True)
    since = serializers.DateTimeField()
    attempts = serializers.IntegerField(help_text="How often its container was started so far.")
    actions = ActionSerializer(many=True, help_text="Up to three; in lists always empty.")


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


@extend_schema_field(ExplanationSerializer(allow_null=True))
class ExplanationField(serializers.Field[Any, Any, Any, Workload]):
    """Of a workload: null while it runs as asked. Lists leave out what would have to be looked up."""

    def __init__(self) -> None:
        super().__init__(source="*", read_only=True)

    def to_representation(self, workload: Workload) -> dict[str, Any] | None:
        in_list = self.parent is not None and self.parent.parent is not None
        return stored_explanation(workload) if in_list else live_explanation(workload)


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


class EventSerializer(ReadSerializer[Event]):
    id = serializers.CharField(source="public_id")
    at = serializers.DateTimeField()
    source = serializers.CharField()  # type: ignore[assignment]  # REST framework takes it for a field
    actor = serializers.CharField()
    reason = serializers.CharField()
    message = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]  # REST framework takes it for a field


class TimelineStepSerializer(serializers.Serializer[Any]):
    """A step of a replica's start: queued, scheduled, image, weights, model_load or ready."""

    step = serializers.ChoiceField(choices=[step.value for step in Step])
    started_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    eta = serializers.DateTimeField(allow_null=True, help_text="When it should end; null = unknown, or over.")
    usual_seconds = serializers.FloatField(allow_null=True, help_text="Median of earlier starts like this.")
    bytes_done = serializers.IntegerField(allow_null=True, help_text="Of weights that are on their way.")
    bytes_total = serializers.IntegerField(allow_null=True)
    message = serializers.CharField()


class TimelineSerializer(serializers.Serializer[Any]):
    """How one replica started, or is starting."""

    replica = serializers.CharField()
    revision = serializers.IntegerField(allow_null=True)
    node = serializers.CharField()
    steps = TimelineStepSerializer(many=True)


class TimelinesSerializer(serializers.Serializer[Any]):
    items = TimelineSerializer(many=True)


class FixSerializer(serializers.Serializer[Any]):
    """What would mend a known cause."""

    title = serializers.CharField()
    message = serializers.CharField()
    who = serializers.CharField(help_text="you, provider or upstream.")
    change = serializers.DictField(help_text="Field of the deployment -> less, more or what else.")


class ClusterEventSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    reason = serializers.CharField()
    message = serializers.CharField()
    count = serializers.IntegerField()


class PostMortemSerializer(serializers.Serializer[PostMortem]):
    """What is known of a replica that died. Stays readable after the deletion."""

    id = serializers.CharField(source="public_id")
    replica = serializers.CharField()
    revision = serializers.IntegerField(allow_null=True)
    attempt = serializers.IntegerField(help_text="Which run of its container, from 1.")
    node = serializers.CharField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    ready_at = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True)
    reason = serializers.CharField()
    message = serializers.CharField()
    cause = serializers.CharField(help_text="Id of a known cause; empty when it is not understood.")
    fix = FixSerializer(allow_null=True)
    memory_limit_bytes = serializers.IntegerField(allow_null=True)
    lines = serializers.ListField(child=serializers.CharField(), help_text="The last of its log.")
    events = ClusterEventSerializer(many=True)
    missing = serializers.ListField(
        child=serializers.CharField(), help_text="What the cluster did not tell, and why."
    )


class LogLineSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    text = serializers.CharField()


class LogSerializer(serializers.Serializer[Any]):
    items = LogLineSerializer(many=True)
    next_after = serializers.IntegerField(help_text="Pass as `after` to continue.")
