"""The REST documents of datasets and fine-tuning jobs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.core.validators import RegexValidator
from django.db.models import Q
from django.utils import timezone
from rest_framework import serializers

from deployments.serving.references import ModelReferenceField, NamedRowField
from deployments.serving.serializers import NAME_VALIDATOR
from deployments.serving.story_serializers import ConditionSerializer, ExplanationField
from deployments.tuning.datasets import newest_version
from deployments.tuning.hyperparameters import HyperparametersSerializer, complete
from deployments.tuning.models import (
    Checkpoint,
    Dataset,
    DatasetVersion,
    FineTuningJob,
    TrainingEvent,
)
from deployments.tuning.plans import TuningAsk
from marketplace.billing.usage import Selection, make_statement
from marketplace.catalog.models import TaskChoices
from marketplace.hardware.models import Flavor, Region
from marketplace.rest.serializers import StrictSerializer

DATASET_NAME = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,79}\Z",
    "A name has 1 to 80 letters, digits, spaces, dots, hyphens and underscores; it starts with a letter or "
    "digit.",
)


class DatasetUploadSerializer(StrictSerializer):
    """Multipart: a name and a JSONL file."""

    name = serializers.CharField(validators=[DATASET_NAME])
    file = serializers.FileField(allow_empty_file=True)


class ReportSerializer(serializers.Serializer[Any]):
    examples = serializers.IntegerField()
    messages = serializers.IntegerField()
    estimated_tokens = serializers.IntegerField(help_text="Of one epoch, at 4 bytes a token.")
    longest_example_estimated_tokens = serializers.IntegerField()
    duplicates = serializers.IntegerField()
    warnings = serializers.ListField(child=serializers.CharField())


class DatasetVersionSerializer(serializers.Serializer[DatasetVersion]):
    id = serializers.CharField(source="public_id")
    digest = serializers.CharField()
    bytes = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class DatasetSerializer(serializers.Serializer[Dataset]):
    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    version = serializers.SerializerMethodField()
    report = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_version(self, dataset: Dataset) -> DatasetVersionSerializer:
        return DatasetVersionSerializer(self._version(dataset)).data  # type: ignore[return-value]

    def get_report(self, dataset: Dataset) -> ReportSerializer:
        return self._version(dataset).report  # type: ignore[no-any-return]

    def _version(self, dataset: Dataset) -> DatasetVersion:
        # An upload is answered with what was uploaded, although another may have come since.
        return self.context.get("version") or newest_version(dataset)


class DatasetReferenceField(serializers.CharField):
    """A dataset (dst_…), whose newest version is meant, or one version of it (dsv_…)."""

    def to_internal_value(self, data: Any) -> Any:
        reference = super().to_internal_value(data)
        versions = DatasetVersion.objects.filter(
            dataset__organization=self.context["actor"].organization, dataset__deleted_at__isnull=True
        )
        version = (
            versions.filter(Q(public_id=reference) | Q(dataset__public_id=reference))
            .order_by("-last_uploaded_at", "-pk")
            .first()
        )
        if version is None:
            raise serializers.ValidationError(
                f"No dataset of yours has the id {reference!r}. Upload one with POST /api/v1/datasets/."
            )
        return version


class JobAskSerializer(StrictSerializer):
    """What to tune, on which data, how and where."""

    name = serializers.CharField(
        validators=[NAME_VALIDATOR], help_text="Becomes the name of the tuned model, private to you."
    )
    model = ModelReferenceField(help_text="Version id, model id, or publisher/model.")
    training_dataset = DatasetReferenceField()
    validation_dataset = DatasetReferenceField(required=False, allow_null=True, default=None)
    hyperparameters = HyperparametersSerializer(required=False)
    flavor = NamedRowField(
        queryset=Flavor.objects.filter(enabled=True), required=False, allow_null=True, default=None
    )
    region = NamedRowField(queryset=Region.objects.all(), required=False, allow_null=True, default=None)

    def validate_model(self, version: Any) -> Any:
        if version.model.task != TaskChoices.TEXT_GENERATION:
            raise serializers.ValidationError(
                f"Only chat and text models can be tuned; {version.model.name} does {version.model.task}."
            )
        return version

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["validation_dataset"] == attrs["training_dataset"]:
            raise serializers.ValidationError(
                {"validation_dataset": "It must not be the training data: it would measure nothing."}
            )
        if "hyperparameters" not in attrs:
            defaults = HyperparametersSerializer(data={})
            defaults.is_valid(raise_exception=True)
            attrs["hyperparameters"] = defaults.validated_data
        version = attrs["model"]
        longest = version.context_length
        attrs["hyperparameters"] = complete(
            attrs["hyperparameters"],
            width=version.architecture.get("hidden_size") or 0,
            context_length=longest or 0,
            tokens_per_epoch=attrs["training_dataset"].report["estimated_tokens"],
        )
        if longest and attrs["hyperparameters"]["max_length"] > longest:
            raise serializers.ValidationError(
                {"hyperparameters": {"max_length": f"The model supports at most {longest} tokens."}}
            )
        return attrs

    def to_ask(self) -> TuningAsk:
        values = self.validated_data
        return TuningAsk(
            name=values["name"],
            base=values["model"],
            training_data=values["training_dataset"],
            validation_data=values["validation_dataset"],
            hyperparameters=dict(values["hyperparameters"]),
            flavor=values["flavor"],
            region=values["region"],
        )


class EstimateSerializer(serializers.Serializer[Any]):
    """Time in seconds and cost, with a band; `measured` earlier runs stand behind it, 0 = priors."""

    flavor = serializers.CharField()
    region = serializers.CharField()
    tokens = serializers.IntegerField()
    steps = serializers.IntegerField()
    seconds = serializers.FloatField()
    seconds_low = serializers.FloatField()
    seconds_high = serializers.FloatField()
    cost = serializers.CharField()
    cost_low = serializers.CharField()
    cost_high = serializers.CharField()
    currency = serializers.CharField()
    measured = serializers.IntegerField()
    memory_bytes = serializers.IntegerField()
    memory_available_bytes = serializers.IntegerField()


class ProgressSerializer(serializers.Serializer[Any]):
    """From the newest event; empty before the first."""

    step = serializers.IntegerField(required=False)
    total_steps = serializers.IntegerField(required=False)
    trained_tokens = serializers.IntegerField(required=False)
    loss = serializers.FloatField(required=False)
    eta_seconds = serializers.FloatField(required=False)
    validation_loss_before = serializers.FloatField(required=False)
    validation_loss_after = serializers.FloatField(required=False)


class JobErrorSerializer(serializers.Serializer[Any]):
    message = serializers.CharField()
    line = serializers.IntegerField(allow_null=True, help_text="Of the training file.")
    customer = serializers.BooleanField(help_text="Whether you can mend it.")


class CostSerializer(serializers.Serializer[Any]):
    amount = serializers.CharField()
    currency = serializers.CharField()


class JobSerializer(serializers.Serializer[FineTuningJob]):
    id = serializers.CharField(source="public_id")
    name = serializers.CharField()
    state = serializers.CharField()
    model = serializers.CharField(source="base.public_id", help_text="Version that is tuned.")
    training_dataset = serializers.CharField(source="training_data.public_id")
    validation_dataset = serializers.CharField(source="validation_data.public_id", default=None)
    hyperparameters = serializers.DictField()
    flavor = serializers.CharField(source="flavor.slug")
    region = serializers.CharField(source="cluster.region.slug")
    progress = ProgressSerializer()
    conditions = ConditionSerializer(many=True)
    explanation = ExplanationField()
    error = JobErrorSerializer(allow_null=True)
    result = serializers.CharField(
        source="result.public_id", default=None, help_text="The tuned version, ready to deploy."
    )
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()


class JobDetailSerializer(JobSerializer):
    """One job, with what it has cost."""

    cost = serializers.SerializerMethodField(help_text="So far, what still runs included.")

    def get_cost(self, job: FineTuningJob) -> CostSerializer:
        selection = Selection(organization=job.organization, resource=job.public_id)
        totals = make_statement(selection, now=timezone.now()).totals
        amount = sum((total.amount for total in totals), start=Decimal(0))
        return {"amount": str(amount), "currency": job.price.currency}  # type: ignore[return-value]


class TrainingEventSerializer(serializers.Serializer[TrainingEvent]):
    type = serializers.CharField()
    step = serializers.IntegerField()
    at = serializers.DateTimeField()
    data = serializers.DictField()  # type: ignore[assignment]  # REST framework takes it for a field


class CheckpointSerializer(serializers.Serializer[Checkpoint]):
    id = serializers.CharField(source="public_id")
    step = serializers.IntegerField()
    created_at = serializers.DateTimeField()
