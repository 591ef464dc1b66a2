"""Imports: from a source to a published version, in short passes that may die at any point.

`advance` makes one pass: it takes the lease, does a bounded piece of work, and says what to do next. What was
done lies on disk, where a file has its final name exactly when it is complete and verified, so a killed
worker costs the bytes of one chunk. The steps:

1. Resolve the source to a revision and a list of files; refuse unsafe ones by name and size.
2. Bring the next file into the import's own folder, small ones first, and check what is inside: code and odd
   templates are refused before the weights are downloaded.
3. When all are there: move the folder to its place, named by its digest, and publish the version.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from marketplace.accounts.models import User
from marketplace.catalog.folders import FolderMissing
from marketplace.catalog.hub import HubError
from marketplace.catalog.manifests import Manifest, ManifestFile
from marketplace.catalog.models import ImportState, Model, ModelImport
from marketplace.catalog.safety import UnsafeModel, check_content
from marketplace.catalog.sources import PlannedFile, Source, SourceChanged, SourceRefused, open_source
from marketplace.catalog.storage import full_path, holds, incoming_folder, remove_folder, store
from marketplace.catalog.versions import facts_of_folder, publish

log = logging.getLogger(__name__)

PASS_SECONDS = 20.0
"""How long a pass works before it gives its place to other tasks."""
LEASE = timedelta(seconds=90)
"""Renewed all along a pass; after a kill -9 the import goes on when it has run out."""
REPORT_SECONDS = 2.0
"""How often a pass writes its progress and renews its lease."""
MOST_FAILURES = 12
"""In a row, without a byte in between; then a person has to look."""
FIRST_WAIT = 5.0
LONGEST_WAIT = 900.0
"""Seconds to step aside after a failure: doubled each time, between these two."""
PART = ".part"


class Outcome(Enum):
    """What a pass came to."""

    AGAIN = "again"
    """There is more to do, now."""
    LATER = "later"
    """It failed in a way that may pass; the row says when to try again."""
    ENDED = "ended"
    """Published, or failed for good."""
    SKIPPED = "skipped"
    """Not due, ended, or another worker is at it."""


class LeaseLost(Exception):
    """Another worker took over, or a person canceled the import."""


def start_import(
    *, model: Model, source: str = "", requested_revision: str = "", requested_by: User | None = None
) -> ModelImport:
    """An import of `source` (default: the model's own), or the unfinished one that already does the same.

    The caller rings `tasks.advance_import`. Raises SourceRefused.
    """
    source = source or model.source
    open_source(source)
    with transaction.atomic():
        Model.objects.select_for_update().get(pk=model.pk)  # two requests at once make one import
        unfinished = ModelImport.objects.filter(
            model=model,
            source=source,
            requested_revision=requested_revision,
            state__in=(ImportState.QUEUED, ImportState.RUNNING),
        ).first()
        return unfinished or ModelImport.objects.create(
            model=model, source=source, requested_revision=requested_revision, requested_by=requested_by
        )


def retry_import(row: ModelImport) -> bool:
    """Starts a failed import again where it stopped. False when it had not failed."""
    return bool(
        ModelImport.objects.filter(pk=row.pk, state=ImportState.FAILED).update(
            state=ImportState.QUEUED,
            error="",
            attempts=0,
            next_attempt_at=timezone.now(),
            finished_at=None,
            lease_token="",
            lease_until=timezone.now(),
        )
    )


def cancel_import(row: ModelImport, *, by: str) -> bool:
    """Stops an unfinished import; what was downloaded stays for a retry. False when it had ended."""
    return bool(
        ModelImport.objects.filter(pk=row.pk, state__in=(ImportState.QUEUED, ImportState.RUNNING)).update(
            state=ImportState.FAILED,
            error=f"Canceled by {by}.",
            retryable=True,
            lease_token="",
            finished_at=timezone.now(),
        )
    )


def due_imports() -> QuerySet[ModelImport]:
    """Imports that a worker may take now."""
    now = timezone.now()
    return ModelImport.objects.filter(
        Q(state=ImportState.QUEUED) | Q(state=ImportState.RUNNING),
        next_attempt_at__lte=now,
        lease_until__lte=now,
    )


def advance(public_id: str, *, pass_seconds: float = PASS_SECONDS) -> Outcome:
    """One pass over one import. Never raises for what a source or its files do wrong: the row says it."""
    token = uuid.uuid4().hex
    taken = (
        due_imports()
        .filter(public_id=public_id)
        .update(lease_token=token, lease_until=timezone.now() + LEASE, state=ImportState.RUNNING)
    )
    if not taken:
        return Outcome.SKIPPED
    work = _Pass(ModelImport.objects.select_related("model__license").get(public_id=public_id), token)
    try:
        return work.run(stop_at=time.monotonic() + pass_seconds)
    except LeaseLost:
        return Outcome.SKIPPED
    except (UnsafeModel, FolderMissing, SourceRefused) as error:
        return work.fail(str(error), retryable=False)
    except HubError as error:
        if not error.retryable:
            return work.fail(str(error), retryable=False)
        return work.step_aside(str(error), wait=error.retry_after)
    except (OSError, SourceChanged) as error:
        return work.step_aside(str(error))
    except Exception as error:
        log.exception("import %s", public_id)
        return work.step_aside(f"Ours to mend ({public_id}): {type(error).__name__}: {error}")


class _Pass:
    """One worker's turn at one import. Every write asks for the lease's token: a late one changes nothing."""

    def __init__(self, row: ModelImport, token: str) -> None:
        self.row = row
        self.token = token
        self.folder = incoming_folder(row.public_id)
        self.reported_at = 0.0

    def run(self, *, stop_at: float) -> Outcome:
        source = open_source(self.row.source)
        if not self.row.files:
            self._resolve(source)
        files = [PlannedFile(**file) for file in self.row.files]
        if not all(file.done for file in files) or not holds(_manifest_of(files)):
            small_first = sorted(range(len(files)), key=lambda index: files[index].bytes)
            for index in small_first:
                brought = self._bring(source, files[index], stop_at=stop_at)
                if brought is None:
                    self._give_back()
                    return Outcome.AGAIN
                if brought != files[index]:
                    files[index] = brought
                    self._write(files=[file.to_json() for file in files], attempts=0)
        return self._publish(_manifest_of(files))

    def _resolve(self, source: Source) -> None:
        resolved = source.resolve(self.row.revision or self.row.requested_revision)
        self._write(
            files=[file.to_json() for file in resolved.files],
            revision=resolved.revision,
            reported=dict(resolved.reported),
            bytes_total=sum(file.bytes for file in resolved.files),
            attempts=0,
        )

    def _bring(self, source: Source, file: PlannedFile, *, stop_at: float) -> PlannedFile | None:
        """The file as done; None when the time is over before."""
        target = self.folder / file.path
        part = target.with_name(target.name + PART)
        if target.is_file():
            if file.done:
                return file
            # A worker died before it wrote that the file is done.
            sha256 = source.verify(file, target, on_chunk=self._renew)
        else:
            if time.monotonic() >= stop_at:
                return None
            before = _bytes_below(self.folder) - _size(part)
            complete = source.fetch(
                file,
                revision=self.row.revision,
                part=part,
                stop_at=stop_at,
                progress=lambda size: self._report(before + size),
            )
            if not complete:
                return None
            sha256 = source.verify(file, part, on_chunk=self._renew)
            part.replace(target)
        refusals = check_content(self.folder, file.path)
        if refusals:
            raise UnsafeModel(refusals)
        return replace(file, sha256=sha256, done=True)

    def _publish(self, manifest: Manifest) -> Outcome:
        path = store(self.folder, manifest)
        facts = facts_of_folder(full_path(path))
        with transaction.atomic():
            version = publish(
                self.row.model,
                revision=self.row.revision or manifest.revision,
                manifest=manifest,
                facts=facts,
            )
            self._write(
                state=ImportState.SUCCEEDED,
                version=version,
                revision=version.revision,
                bytes_done=manifest.total_bytes,
                error="",
                finished_at=timezone.now(),
                lease_token="",
            )
        return Outcome.ENDED

    def fail(self, message: str, *, retryable: bool) -> Outcome:
        """Ends the import; `retryable` says whether starting it again can help."""
        try:
            self._write(
                state=ImportState.FAILED,
                error=message,
                retryable=retryable,
                finished_at=timezone.now(),
                lease_token="",
            )
        except LeaseLost:
            return Outcome.SKIPPED
        if not retryable:
            remove_folder(self.folder)
        return Outcome.ENDED

    def step_aside(self, message: str, *, wait: float | None = None) -> Outcome:
        """Lets time pass before the next attempt; `wait` is what the other side asked for, in seconds."""
        attempts = self.row.attempts + 1
        if attempts > MOST_FAILURES:
            return self.fail(f"{message} (after {attempts} attempts)", retryable=True)
        pause = max(wait or 0.0, min(FIRST_WAIT * 2 ** (attempts - 1), LONGEST_WAIT))
        now = timezone.now()
        try:
            self._write(
                attempts=attempts,
                error=message,
                next_attempt_at=now + timedelta(seconds=pause),
                lease_token="",
                lease_until=now,
            )
        except LeaseLost:
            return Outcome.SKIPPED
        return Outcome.LATER

    def _report(self, bytes_done: int) -> None:
        if time.monotonic() - self.reported_at >= REPORT_SECONDS:
            self.reported_at = time.monotonic()
            # Bytes came, so whatever failed before has passed.
            self._write(bytes_done=bytes_done, attempts=0, lease_until=timezone.now() + LEASE)

    def _renew(self) -> None:
        if time.monotonic() - self.reported_at >= REPORT_SECONDS:
            self.reported_at = time.monotonic()
            self._write(lease_until=timezone.now() + LEASE)

    def _give_back(self) -> None:
        now = timezone.now()
        self._write(bytes_done=_bytes_below(self.folder), lease_token="", lease_until=now)

    def _write(self, **values: Any) -> None:
        mine = ModelImport.objects.filter(pk=self.row.pk, lease_token=self.token)
        if not mine.update(**values):
            raise LeaseLost(self.row.public_id)
        for name, value in values.items():
            setattr(self.row, name, value)


def _manifest_of(files: Iterable[PlannedFile]) -> Manifest:
    return Manifest.of(ManifestFile(path=file.path, bytes=file.bytes, sha256=file.sha256) for file in files)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
