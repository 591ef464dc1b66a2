"""The portal's forms for planning and naming a deployment. They ask; the REST serializers decide."""

from __future__ import annotations

from typing import Any

from django import forms

from deployments.serving.models import Plan
from deployments.serving.plans import ServingAsk
from deployments.serving.serializers import DEFAULT_CONCURRENCY, NAME_VALIDATOR, ServingAskSerializer
from marketplace.accounts.actors import Actor
from marketplace.catalog.models import ModelVersion
from marketplace.catalog.precisions import BYTES_PER_VALUE
from marketplace.hardware.models import Flavor, Region


class AskForm(forms.Form):
    """About which load, and where."""

    flavor = forms.ModelChoiceField(
        Flavor.objects.filter(enabled=True, node_pools__isnull=False).distinct().order_by("slug"),
        to_field_name="slug",
        required=False,
        empty_label="Where it fits best",
    )
    region = forms.ModelChoiceField(
        Region.objects.filter(clusters__enabled=True).distinct().order_by("slug"),
        to_field_name="slug",
        required=False,
        empty_label="Any region",
    )
    precision = forms.ChoiceField(
        choices=[("", "Full precision"), *((name, name) for name in sorted(BYTES_PER_VALUE))], required=False
    )
    replicas = forms.IntegerField(min_value=1, max_value=100, initial=1)
    context_length = forms.IntegerField(
        min_value=1, required=False, help_text="Tokens of prompt and answer; empty for the usual length."
    )
    max_concurrency = forms.IntegerField(
        label="Requests at once", min_value=1, max_value=1024, initial=DEFAULT_CONCURRENCY
    )

    def to_ask(self, *, version: ModelVersion, actor: Actor) -> ServingAsk | None:
        """The ask as the REST API understands it; None after adding its errors to the form."""
        values: dict[str, Any] = {"model": version.public_id}
        for name, value in self.cleaned_data.items():
            values[name] = getattr(value, "slug", value) or None
        asked = ServingAskSerializer(data=values, context={"actor": actor})
        if asked.is_valid():
            return asked.to_ask()
        for field, messages in asked.errors.items():
            self.add_error(field if field in self.fields else None, [str(message) for message in messages])
        return None


class DeployForm(forms.Form):
    """A name for what was planned."""

    plan = forms.CharField(widget=forms.HiddenInput)
    name = forms.CharField(
        max_length=40,
        validators=[NAME_VALIDATOR],
        help_text="Lower-case letters, digits and hyphens. Your programs use it as the model's name.",
    )

    @classmethod
    def offering(cls, plan: Plan, *, version: ModelVersion) -> DeployForm:
        return cls(initial={"plan": plan.public_id, "name": version.model.slug.replace(".", "-")[:40]})
