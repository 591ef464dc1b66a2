"""The catalog as REST documents. Sizes are bytes, context lengths tokens."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from marketplace.catalog.models import Framework, License, Model, ModelImport, ModelVersion, Recipe
from marketplace.catalog.offers import cheapest
from marketplace.catalog.sources import SourceRefused, open_source
from marketplace.hardware.serializers import QuoteSerializer, quote_of
from marketplace.rest.serializers import StrictSerializer


class LicenseSerializer(serializers.ModelSerializer[License]):
    class Meta:
        model = License
        fields = ("slug", "name", "url", "commercial_use")


class FrameworkSerializer(serializers.ModelSerializer[Framework]):
    id = serializers.CharField(source="public_id", read_only=True)
    license = LicenseSerializer()

    class Meta:
        model = Framework
        fields = (
            "id",
            "slug",
            "name",
            "version",
            "accelerator_family",
            "image",
            "workspace_image",
            "license",
            "description",
            "source",
        )


class RecipeSerializer(serializers.ModelSerializer[Recipe]):
    id = serializers.CharField(source="public_id", read_only=True)

    class Meta:
        model = Recipe
        fields = (
            "id",
            "engine",
            "accelerator_family",
            "image",
            "precision",
            "min_memory_bytes",
            "measured_start_seconds",
            "measured_speed",
            "verified_at",
        )


class VersionFileSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    bytes = serializers.IntegerField()
    sha256 = serializers.CharField()


class VersionSerializer(serializers.ModelSerializer[ModelVersion]):
    id = serializers.CharField(source="public_id", read_only=True)
    parent = serializers.CharField(  # type: ignore[assignment]  # the base class has an attribute `parent`
        source="parent.public_id", default=None, allow_null=True, help_text="What it was tuned from."
    )
    files = VersionFileSerializer(many=True)
    recipes = RecipeSerializer(many=True)

    class Meta:
        model = ModelVersion
        fields = (
            "id",
            "revision",
            "published_at",
            "parent",
            "is_adapter",
            "parameters",
            "precision",
            "weights_bytes",
            "context_length",
            "architecture",
            "files",
            "recipes",
        )


@extend_schema_serializer(component_name="PriceFrom")
class PriceFromSerializer(QuoteSerializer):
    flavor = serializers.CharField()


class ModelSerializer(serializers.ModelSerializer[Model]):
    """An entry of the catalog. Its figures are those of its newest published version, else the maker's."""

    id = serializers.CharField(source="public_id", read_only=True)
    license = LicenseSerializer()
    private = serializers.SerializerMethodField(help_text="Whether it is your organization's own.")
    runnable = serializers.BooleanField(help_text="Whether it can be deployed here and now.")
    terms_accepted = serializers.SerializerMethodField(
        help_text="Of a gated model: whether your organization has accepted its terms; else null."
    )
    parameters = serializers.SerializerMethodField()
    precision = serializers.SerializerMethodField()
    context_length = serializers.SerializerMethodField()
    price_from = serializers.SerializerMethodField(
        help_text="The cheapest flavor that holds its weights; null when none here does."
    )

    class Meta:
        model = Model
        fields: tuple[str, ...] = (
            "id",
            "publisher",
            "slug",
            "name",
            "task",
            "tags",
            "license",
            "gated",
            "terms_accepted",
            "private",
            "description",
            "source",
            "parameters",
            "precision",
            "context_length",
            "runnable",
            "price_from",
            "created_at",
        )

    def get_terms_accepted(self, model: Model) -> bool | None:
        accepted: bool = model.terms_accepted  # type: ignore[attr-defined]  # the view's query adds it
        return accepted if model.gated else None

    def get_private(self, model: Model) -> bool:
        return model.owner_id is not None

    @extend_schema_field(serializers.IntegerField(allow_null=True))
    def get_parameters(self, model: Model) -> Any:
        return _fact(model, "parameters")

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_precision(self, model: Model) -> Any:
        return _fact(model, "precision")

    @extend_schema_field(serializers.IntegerField(allow_null=True))
    def get_context_length(self, model: Model) -> Any:
        return _fact(model, "context_length")

    @extend_schema_field(PriceFromSerializer(allow_null=True))
    def get_price_from(self, model: Model) -> dict[str, str] | None:
        newest = _newest(model)
        if newest is None:
            return None
        recipes = list(newest.recipes.all()) or (list(newest.parent.recipes.all()) if newest.parent else [])
        offer = cheapest(recipes, parameters=newest.parameters or 0, offers=self.context["offers"])
        return {"flavor": offer.price.flavor.slug, **quote_of(offer.price)} if offer else None


class ModelDetailSerializer(ModelSerializer):
    versions = VersionSerializer(many=True)

    class Meta(ModelSerializer.Meta):
        fields = (*ModelSerializer.Meta.fields, "versions")


def _newest(model: Model) -> ModelVersion | None:
    """The newest published version. `versions` come prefetched, newest first."""
    return next((version for version in model.versions.all() if version.published_at), None)


def _fact(model: Model, name: str) -> Any:
    newest = _newest(model)
    return (getattr(newest, name) if newest else None) or model.facts.get(name)


class ImportSerializer(serializers.ModelSerializer[ModelImport]):
    id = serializers.CharField(source="public_id", read_only=True)
    model = serializers.CharField(source="model.public_id")
    version = serializers.CharField(source="version.public_id", default=None, allow_null=True)
    requested_by = serializers.EmailField(source="requested_by.email", default=None, allow_null=True)

    class Meta:
        model = ModelImport
        fields = (
            "id",
            "model",
            "source",
            "requested_revision",
            "revision",
            "state",
            "bytes_done",
            "bytes_total",
            "reported",
            "error",
            "retryable",
            "attempts",
            "next_attempt_at",
            "version",
            "requested_by",
            "created_at",
            "finished_at",
        )


class NewImportSerializer(StrictSerializer):
    model = serializers.CharField(help_text="Id of the catalog entry: `mdl_…`, or publisher/model.")
    source = serializers.CharField(  # type: ignore[assignment]  # the base class has an attribute `source`
        required=False,
        default="",
        max_length=200,
        help_text="hub:owner/name, or folder: and an absolute path; left out = the entry's own source.",
    )
    revision = serializers.CharField(
        required=False, default="", max_length=80, help_text="Branch, tag or commit; left out = main."
    )

    def validate_model(self, value: str) -> Model:
        publisher, _, slug = value.partition("/")
        model = (
            Model.objects.filter(public_id=value).first()
            or Model.objects.filter(publisher=publisher, slug=slug).first()
        )
        if model is None:
            raise serializers.ValidationError(f"There is no entry {value!r}; make it in the admin first.")
        return model

    def validate_source(self, value: str) -> str:
        if value:
            try:
                open_source(value)
            except SourceRefused as error:
                raise serializers.ValidationError(str(error)) from error
        return value
