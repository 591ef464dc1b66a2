"""The REST documents of workspaces: what may be sent, and what is answered."""

from __future__ import annotations

from rest_framework import serializers

from deployments.serving.plans import quoted
from deployments.serving.references import NamedRowField
from deployments.serving.serializers import NAME_VALIDATOR
from deployments.serving.story_serializers import ConditionSerializer, ExplanationField
from deployments.workspaces.addresses import url_of
from deployments.workspaces.models import Workspace
from deployments.workspaces.placing import WorkspaceAsk
from marketplace.catalog.models import Framework
from marketplace.hardware.models import Flavor, Region
from marketplace.hardware.serializers import QuoteSerializer
from marketplace.rest.serializers import StrictSerializer

DEFAULT_VOLUME_GIB = 20
LARGEST_VOLUME_GIB = 2048


class WorkspaceAskSerializer(StrictSerializer):
    """A notebook server: with which framework, on what, and how much room it keeps."""

    name = serializers.CharField(validators=[NAME_VALIDATOR])
    framework = NamedRowField(queryset=Framework.objects.filter(listed=True))
    flavor = NamedRowField(queryset=Flavor.objects.filter(enabled=True))
    region = NamedRowField(
        queryset=Region.objects.all(),
        required=False,
        allow_null=True,
        default=None,
        help_text="Left out, where the flavor is cheapest.",
    )
    volume_gib = serializers.IntegerField(
        min_value=1,
        max_value=LARGEST_VOLUME_GIB,
        default=DEFAULT_VOLUME_GIB,
        help_text="GiB of the volume, which is kept while the workspace is paused.",
    )

    def to_ask(self) -> WorkspaceAsk:
        """Of valid data."""
        return WorkspaceAsk(**self.validated_data)


class WorkspaceSerializer(serializers.Serializer[Workspace]):
    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    state = serializers.CharField()
    desired_state = serializers.CharField()
    framework = serializers.CharField(source="framework.slug")
    flavor = serializers.CharField(source="flavor.slug")
    region = serializers.CharField(source="cluster.region.slug")
    volume_gib = serializers.IntegerField()
    url = serializers.SerializerMethodField(help_text="Asks for the token: see POST …/token/.")
    generation = serializers.IntegerField()
    observed_generation = serializers.IntegerField()
    conditions = ConditionSerializer(many=True)
    explanation = ExplanationField()
    price = serializers.SerializerMethodField()
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    stop_requested_at = serializers.DateTimeField(allow_null=True)
    deleted_at = serializers.DateTimeField(allow_null=True)

    def get_url(self, workspace: Workspace) -> str:
        return url_of(workspace.public_id)

    def get_price(self, workspace: Workspace) -> QuoteSerializer:
        return quoted(  # type: ignore[return-value]  # the annotation is for the schema
            per_second=workspace.price.per_second, currency=workspace.price.currency, replicas=1
        )


class TokenSerializer(serializers.Serializer[dict[str, str]]):
    token = serializers.CharField(help_text="Send it as `Authorization: token …`, or type it in.")
    open_url = serializers.CharField(help_text="Opens the workspace in a browser. Whoever has it may enter.")
