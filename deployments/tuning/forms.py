"""The portal's forms of fine-tuning. They ask; the REST serializers decide."""

from __future__ import annotations

from typing import Any

from django import forms

from deployments.serving.references import visible_versions
from deployments.tuning.hyperparameters import DEFAULTS
from deployments.tuning.models import Dataset
from deployments.tuning.serializers import DATASET_NAME, JobAskSerializer
from marketplace.accounts.actors import Actor
from marketplace.catalog.offers import TUNING_ENGINES
from marketplace.hardware.models import Flavor
from marketplace.hardware.placement import open_pools


class UploadForm(forms.Form):
    """A chat dataset."""

    name = forms.CharField(max_length=80, validators=[DATASET_NAME])
    file = forms.FileField(
        help_text='JSONL: one {"messages": [{"role": "user", "content": "…"}, …]} a line.',
        allow_empty_file=True,
    )


class JobForm(forms.Form):
    """What to tune, on which data."""

    name = forms.CharField(max_length=40, help_text="Becomes the name of the tuned model, private to you.")
    model = forms.ChoiceField()
    training_dataset = forms.ChoiceField()
    validation_dataset = forms.ChoiceField(
        required=False, help_text="Empty: a part of the training data is held out."
    )
    flavor = forms.ModelChoiceField(
        Flavor.objects.none(), to_field_name="slug", required=False, empty_label="The cheapest that fits"
    )
    epochs = forms.IntegerField(min_value=1, max_value=50, initial=DEFAULTS["epochs"])

    def __init__(self, *args: Any, actor: Actor, **options: Any) -> None:
        super().__init__(*args, **options)
        self.actor = actor
        versions = visible_versions(actor.organization).filter(
            is_adapter=False, recipes__engine__in=TUNING_ENGINES
        )
        datasets = Dataset.objects.filter(organization=actor.organization, deleted_at__isnull=True)
        chosen = [(dataset.public_id, dataset.name) for dataset in datasets.order_by("name")]
        self._choices("model", [(version.public_id, version.model.name) for version in versions.distinct()])
        self._choices("training_dataset", chosen)
        self._choices("validation_dataset", [("", "None"), *chosen])
        flavors = self.fields["flavor"]
        assert isinstance(flavors, forms.ModelChoiceField)
        flavors.queryset = Flavor.objects.filter(node_pools__in=open_pools()).distinct().order_by("slug")

    def to_ask(self) -> JobAskSerializer | None:
        """The ask as the REST API understands it; None after adding its errors to the form."""
        values = dict(self.cleaned_data)
        flavor = values.pop("flavor")
        body = {
            **{name: values[name] for name in ("name", "model", "training_dataset")},
            "validation_dataset": values["validation_dataset"] or None,
            "flavor": flavor.slug if flavor else None,
            "hyperparameters": {"epochs": values["epochs"]},
        }
        asked = JobAskSerializer(data=body, context={"actor": self.actor})
        if asked.is_valid():
            return asked
        for field, messages in asked.errors.items():
            self.add_error(field if field in self.fields else None, str(messages))
        return None

    def _choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices
