"""The REST documents of what workloads tell of themselves: why one does not run, events, timelines, logs."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from deployments.reconcile.explanation import Fixer, Why
from deployments.reconcile.timeline import Step
from deployments.serving.explanations import live_explanation, stored_explanation
from deployments.serving.models import Event, PostMortem
from deployments.serving.plan_serializers import QuoteSerializer
from deployments.serving.workload import Workload
from marketplace.rest.reading import ReadSerializer
from marketplace.rest.serializers import StrictSerializer


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


@extend_schema_field(ExplanationSerializer(allow_null=True))
class ExplanationField(serializers.Field[Any, Any, Any, Workload]):
    """Of a workload: null while it runs as asked. Lists leave out what would have to be looked up."""

    def __init__(self) -> None:
        super().__init__(source="*", read_only=True)

    def to_representation(self, workload: Workload) -> dict[str, Any] | None:
        in_list = self.parent is not None and self.parent.parent is not None
        return stored_explanation(workload) if in_list else live_explanation(workload)


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
