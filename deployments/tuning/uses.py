"""What needs a model or a dataset file now: what may not be deleted, and what of the storage has to stay."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import F, Q, QuerySet

from deployments.serving.models import Deployment, DesiredState, Revision
from deployments.tuning.models import DatasetVersion, FineTuningJob, JobState
from marketplace.catalog.models import Model, ModelVersion
from marketplace.catalog.removal import Use


def uses_of(model: Model) -> Iterable[Use]:
    """Deployments that run the model or would when resumed, and jobs that tune it now."""
    revisions = revisions_in_use().filter(version__model=model).select_related("deployment")
    for deployment in {revision.deployment for revision in revisions}:
        yield Use(id=deployment.public_id, name=deployment.name, what="deployment")
    for job in going_jobs().filter(base__model=model):
        yield Use(id=job.public_id, name=job.name, what="fine-tuning job")


def revisions_in_use() -> QuerySet[Revision]:
    """Revisions that have pods, or may get them without anybody asking for a new one."""
    numbers = Q()
    for column in ("target", "serving", "stable", "fallback"):
        numbers |= Q(number=F(f"deployment__{column}_revision"))
    living = Deployment.objects.filter(deleted_at__isnull=True).exclude(desired_state=DesiredState.DELETED)
    return Revision.objects.filter(numbers, deployment__in=living)


def going_jobs() -> QuerySet[FineTuningJob]:
    """Jobs that have not ended."""
    return FineTuningJob.objects.filter(state__in=[JobState.QUEUED, JobState.RUNNING])


def needed_versions() -> QuerySet[ModelVersion]:
    """Versions whose files have to stay: offered ones, those in use, and what adapters of both need."""
    # Also of a deployment that is being deleted: its pods may still read.
    ending = Revision.objects.filter(deployment__deleted_at__isnull=True)
    own = (
        Q(model__deleted_at__isnull=True)
        | Q(pk__in=ending.values("version"))
        | Q(pk__in=going_jobs().values("base"))
    )
    versions = ModelVersion.objects.filter(own)
    return ModelVersion.objects.filter(own | Q(pk__in=versions.values("parent")))


def needed_dataset_files() -> QuerySet[DatasetVersion]:
    """Files of datasets that are listed, and of jobs that still read theirs."""
    return DatasetVersion.objects.filter(
        Q(dataset__deleted_at__isnull=True)
        | Q(pk__in=going_jobs().values("training_data"))
        | Q(pk__in=going_jobs().values("validation_data"))
    )
