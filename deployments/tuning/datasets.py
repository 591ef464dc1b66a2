"""Takes in dataset files: validated while still aside, stored and recorded only when whole and right."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from deployments.serving.errors import WishRefused
from deployments.tuning.models import Dataset, DatasetVersion
from deployments.tuning.storage import Incoming, dataset_path
from deployments.tuning.validation import Verdict, validate_chat_file
from marketplace.accounts import audit
from marketplace.accounts.actors import Actor


class DatasetRefused(Exception):
    """The file has errors; nothing was stored."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.error_count} errors")
        self.verdict = verdict


def add_dataset(*, actor: Actor, name: str, chunks: Iterable[bytes]) -> DatasetVersion:
    """Validates and stores a file as the newest version of the dataset called `name`.

    A file that the dataset had before is the version that it was then, which becomes the newest again.
    Raises DatasetRefused with every error by line.
    """
    with Incoming() as incoming:
        incoming.write(chunks)
        with incoming.path.open("rb") as lines:
            verdict = validate_chat_file(lines)
        if not verdict.accepted:
            raise DatasetRefused(verdict)
        storage_path = dataset_path(organization=actor.organization.public_id, digest=incoming.digest)
        incoming.keep(storage_path)
        with transaction.atomic():
            dataset, _ = Dataset.objects.get_or_create(
                organization=actor.organization, name=name, deleted_at=None
            )
            version, created = DatasetVersion.objects.update_or_create(
                dataset=dataset,
                digest=incoming.digest,
                defaults={"last_uploaded_at": timezone.now()},
                create_defaults={
                    "storage_path": storage_path,
                    "bytes": incoming.bytes,
                    "report": verdict.report(),
                },
            )
            if created:
                audit.record(actor=actor, action="dataset.upload", target=version.public_id)
    return version


def newest_version(dataset: Dataset) -> DatasetVersion:
    """The version that a job gets which names the dataset: the one uploaded last."""
    return dataset.versions.latest("last_uploaded_at", "pk")


def delete_dataset(*, actor: Actor, dataset: Dataset) -> None:
    """Takes the dataset away from lists and new jobs. Its files go once no running job reads them."""
    with transaction.atomic():
        row = Dataset.objects.select_for_update().get(pk=dataset.pk)
        if row.deleted_at is not None:
            raise WishRefused("This dataset has already been deleted.", type="deleted")
        row.deleted_at = timezone.now()
        row.save(update_fields=["deleted_at"])
        audit.record(actor=actor, action="dataset.delete", target=row.public_id)
