from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from deployments.serving.workload import Workload
from marketplace.accounts.models import Organization
from marketplace.catalog.models import ModelVersion, Recipe
from marketplace.ids import PublicIdField


class Dataset(models.Model):
    public_id = PublicIdField("dst")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=80)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "name"],
                condition=models.Q(deleted_at__isnull=True),
                name="dataset_name_unique",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class DatasetVersion(models.Model):
    """One uploaded and accepted file. Its content never changes; a file with errors is never stored."""

    public_id = PublicIdField("dsv")
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    digest = models.CharField(max_length=64)  # sha256 of the file, hex
    storage_path = models.CharField(max_length=200)  # below STORAGE_ROOT
    bytes = models.BigIntegerField()
    report = models.JSONField()  # what validation found: examples, messages, tokens, warnings
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # The same file again is the same version, and then the newest one.
    last_uploaded_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["dataset", "digest"], name="dataset_version_digest_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.dataset}@{self.digest[:12]}"


class DesiredJobState(models.TextChoices):
    RUNNING = "running", "Running"
    CANCELLED = "cancelled", "Cancelled"
    DELETED = "deleted", "Deleted"  # only of a job that has ended


class JobState(models.TextChoices):
    """As in OpenAI's fine-tuning API. Derived by `reconcile.status`, never chosen."""

    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


class FineTuningJob(Workload):
    """Tunes a model version on a dataset. Succeeds by publishing a private version (`result`)."""

    public_id = PublicIdField("ftj")

    # Wish
    recipe = models.ForeignKey(Recipe, on_delete=models.PROTECT, related_name="+")
    base = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="+")
    training_data = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="+")
    validation_data = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, null=True, related_name="+")
    hyperparameters = models.JSONField(default=dict)  # fields of TuningEnvironment
    # What the manifests are made from, complete and self-contained: see `serving.spec.TuningSpec`.
    spec = models.JSONField()
    desired_state = models.CharField(
        max_length=16, choices=DesiredJobState.choices, default=DesiredJobState.RUNNING
    )

    # Fact
    state = models.CharField(max_length=16, choices=JobState.choices, default=JobState.QUEUED)
    # From the newest training event: {"step", "total_steps", "trained_tokens", "loss", "eta_seconds"}.
    progress = models.JSONField(default=dict)
    log_position = models.PositiveIntegerField(default=0)  # last log line that was read for events
    log_replica = models.CharField(max_length=64, blank=True)  # uid of the replica it counts in
    error = models.JSONField(null=True)  # {"message", "line", "customer"}
    result = models.ForeignKey(ModelVersion, on_delete=models.SET_NULL, null=True, related_name="+")

    def __str__(self) -> str:
        return f"{self.name} ({self.public_id})"

    @classmethod
    def wished(cls) -> models.QuerySet[FineTuningJob]:
        return cls.objects.filter(
            desired_state=DesiredJobState.RUNNING, state__in=[JobState.QUEUED, JobState.RUNNING]
        )


class TrainingEvent(models.Model):
    """One event line of a training run (`runtimes.contract.TrainingEventType`). Append-only."""

    job = models.ForeignKey(FineTuningJob, on_delete=models.CASCADE, related_name="training_events")
    replica_uid = models.CharField(max_length=64)
    line = models.PositiveIntegerField()  # of the replica's log
    type = models.CharField(max_length=16)
    step = models.PositiveIntegerField()
    at = models.DateTimeField()
    data = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["job", "replica_uid", "line"], name="training_event_recorded_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} at step {self.step}"


class Checkpoint(models.Model):
    """A whole checkpoint of a job, from its CHECKPOINT event."""

    public_id = PublicIdField("ckp")
    job = models.ForeignKey(FineTuningJob, on_delete=models.CASCADE, related_name="checkpoints")
    step = models.PositiveIntegerField()
    path = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "step"], name="one_checkpoint_per_step"),
        ]

    def __str__(self) -> str:
        return f"step {self.step}"
