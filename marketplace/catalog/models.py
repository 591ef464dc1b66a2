from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from marketplace.accounts.models import Organization, User
from marketplace.hardware.models import AcceleratorFamily
from marketplace.ids import PublicIdField

REVISION_VALIDATOR = RegexValidator(r"^[0-9a-f]{40}\Z", "A revision is a full commit id: 40 hex digits.")


class TaskChoices(models.TextChoices):
    """Kinds of model, named as on the Hugging Face hub (`runtimes.contract.Task`)."""

    TEXT_GENERATION = "text-generation", "Chat and text"
    FEATURE_EXTRACTION = "feature-extraction", "Embeddings"
    TEXT_TO_IMAGE = "text-to-image", "Text to image"
    TEXT_TO_VIDEO = "text-to-video", "Text to video"
    TEXT_TO_SPEECH = "text-to-speech", "Text to speech"
    AUTOMATIC_SPEECH_RECOGNITION = "automatic-speech-recognition", "Speech to text"


class License(models.Model):
    # The SPDX id in lower case where there is one, else the hub's.
    slug = models.CharField(
        max_length=60, unique=True, validators=[RegexValidator(r"^[a-z0-9][a-z0-9.+-]*\Z")]
    )
    name = models.CharField(max_length=120)
    url = models.URLField(blank=True)
    commercial_use = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.name


class Model(models.Model):
    """A model as customers know it. Public when `owner` is empty, else private to that organization."""

    public_id = PublicIdField("mdl")
    publisher = models.SlugField(max_length=60)  # who made it; for a private model the organization's slug
    slug = models.CharField(max_length=96, validators=[RegexValidator(r"^[a-z0-9][a-z0-9._-]*\Z")])
    name = models.CharField(max_length=120)
    owner = models.ForeignKey(
        Organization, on_delete=models.CASCADE, null=True, blank=True, related_name="private_models"
    )
    task = models.CharField(max_length=40, choices=TaskChoices.choices)
    tags = models.JSONField(default=list, blank=True)  # "code", "multilingual"…
    license = models.ForeignKey(License, on_delete=models.PROTECT, related_name="models")
    gated = models.BooleanField(default=False)  # the hub asks for accepted terms before it hands out weights
    description = models.TextField(blank=True)
    source = models.CharField(max_length=200, blank=True)  # "hub:owner/name" or "folder:name"
    # As the maker publishes them, for an entry that has no version yet: {"parameters", "precision",
    # "context_length"}. A version's own columns, read from its files, take precedence.
    facts = models.JSONField(default=dict, blank=True)
    listed = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # When its owner removed it; its files go once nothing needs them. Never set on a public model.
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["publisher", "slug"],
                condition=models.Q(deleted_at__isnull=True),
                name="model_slug_unique_per_publisher",
            ),
        ]
        indexes: ClassVar = [GinIndex(fields=["tags"], name="model_tags")]

    def __str__(self) -> str:
        return f"{self.publisher}/{self.slug}"


class ModelVersion(models.Model):
    """One pinned state of a model's files. Immutable once published (held by a database trigger)."""

    public_id = PublicIdField("mdv")
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    parent = models.ForeignKey(  # lineage: the version this one was tuned from
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="children"
    )
    revision = models.CharField(max_length=40, validators=[REVISION_VALIDATOR])
    # [{"path", "bytes", "sha256"}], sorted by path; for an adapter only the adapter's own files.
    files = models.JSONField(default=list, blank=True)
    storage_path = models.CharField(max_length=200, blank=True)  # below STORAGE_ROOT; empty = not fetched
    is_adapter = models.BooleanField(default=False)  # True: needs the parent's weights to run
    parameters = models.BigIntegerField(null=True, blank=True)
    precision = models.CharField(max_length=16, blank=True)  # float32, bfloat16…
    weights_bytes = models.BigIntegerField(null=True, blank=True)
    context_length = models.PositiveIntegerField(null=True, blank=True)  # tokens
    # What memory estimates need:
    # {"layers", "hidden_size", "attention_heads", "kv_heads", "head_size", "vocabulary"}.
    architecture = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    published_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "revision"], name="one_version_per_revision"),
            models.CheckConstraint(
                condition=models.Q(is_adapter=False) | models.Q(parent__isnull=False),
                name="adapter_has_parent",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model}@{self.revision[:12]}"


class Recipe(models.Model):
    """A way to run a version: which engine, on which accelerator family, in which image."""

    public_id = PublicIdField("rcp")
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="recipes")
    engine = models.CharField(max_length=40)  # transformers, vllm, ctranslate2…
    accelerator_family = models.CharField(max_length=8, choices=AcceleratorFamily.choices)
    image = models.CharField(max_length=255)  # with tag or digest
    precision = models.CharField(max_length=16)
    tensor_parallel = models.BooleanField(
        default=False,
        help_text="The engine spreads one model over all devices of a flavor; else it uses one.",
    )
    min_memory_bytes = models.BigIntegerField(default=0)  # of accelerator memory (host memory on CPU)
    options = models.JSONField(default=dict, blank=True)  # fields of ServingEnvironment to set
    measured_start_seconds = models.FloatField(null=True, blank=True)
    measured_speed = models.JSONField(default=dict, blank=True)  # {"tokens_per_second": 27.0, "batch": 1}
    verified_at = models.DateTimeField(null=True, blank=True)  # when it last started for real

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["version", "engine", "accelerator_family", "precision"],
                name="one_recipe_per_engine_family_and_precision",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} with {self.engine} on {self.accelerator_family}"


class TermsAcceptance(models.Model):
    """An organization's consent to the terms of a gated model, given by one of its administrators."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="accepted_terms")
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="acceptances")
    license = models.ForeignKey(License, on_delete=models.PROTECT, related_name="+")  # as it was then
    accepted_by = models.CharField(max_length=254)  # e-mail address or API key id
    accepted_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "model", "license"], name="terms_accepted_once_per_license"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization} accepted {self.license} of {self.model}"


class Framework(models.Model):
    """A ready-made development environment: PyTorch, TensorFlow, PaddlePaddle, CUDA, Poplar."""

    public_id = PublicIdField("frm")
    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=80)
    version = models.CharField(max_length=40)
    accelerator_family = models.CharField(max_length=8, choices=AcceleratorFamily.choices)
    image = models.CharField(max_length=255)
    # The same with a notebook server; empty = no workspace is offered.
    workspace_image = models.CharField(max_length=255, blank=True)
    license = models.ForeignKey(License, on_delete=models.PROTECT, related_name="frameworks")
    description = models.TextField(blank=True)
    source = models.URLField(blank=True)
    listed = models.BooleanField(default=True)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class ImportState(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"


class ModelImport(models.Model):
    """Brings a model's files into storage and publishes a version, in short passes (see `imports.py`)."""

    public_id = PublicIdField("imp")
    source = models.CharField(max_length=200)  # "hub:owner/name" or "folder:/path"
    requested_revision = models.CharField(max_length=80, blank=True)  # branch, tag or commit; empty = main
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="imports")
    requested_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    state = models.CharField(max_length=16, choices=ImportState.choices, default=ImportState.QUEUED)
    revision = models.CharField(max_length=40, blank=True)  # what was resolved
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(null=True)
    # The files to bring, once known: [{"path", "bytes", "sha256", "blob_id"}]; see `sources.PlannedFile`.
    files = models.JSONField(default=list, blank=True, editable=False)
    # What the hub says of the model: {"license", "gated", "task"}; empty for a folder.
    reported = models.JSONField(default=dict, blank=True, editable=False)
    error = models.TextField(blank=True)
    retryable = models.BooleanField(default=True)
    attempts = models.PositiveIntegerField(default=0)  # failures in a row
    lease_token = models.CharField(max_length=36, blank=True, editable=False)
    lease_until = models.DateTimeField(db_default=Now(), editable=False)  # a worker is at it until then
    next_attempt_at = models.DateTimeField(db_default=Now())
    version = models.ForeignKey(ModelVersion, on_delete=models.SET_NULL, null=True, related_name="imports")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.source} ({self.state})"
