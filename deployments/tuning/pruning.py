"""Removes from the storage what nothing needs: files of deleted models and datasets, outputs of deleted jobs,
and what uploads, imports and results that died have left.

Files are named by their content, so several rows may share one: it goes when the last row that needs it is
gone. References are counted when files are removed and not before, and what is young stays: a file is in its
place before the row that needs it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from django.conf import settings

from deployments.tuning.models import FineTuningJob, JobState
from deployments.tuning.storage import DATASETS, OUTPUTS
from deployments.tuning.uses import needed_dataset_files, needed_versions
from marketplace.catalog.models import ImportState, ModelImport, ModelVersion
from marketplace.catalog.storage import INCOMING, full_path, remove_folder

log = logging.getLogger(__name__)


def prune_storage() -> list[str]:
    """Removes what nothing needs; returns the storage paths that went."""
    removed = []
    for path in (*_model_folders(), *_dataset_files(), *_outputs(), *_incoming()):
        relative = path.relative_to(settings.STORAGE_ROOT).as_posix()
        try:
            if path.is_dir():
                remove_folder(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s stays for now: %s", relative, error)
            continue
        log.info("removed %s: nothing needs it", relative)
        removed.append(relative)
    return removed


def _model_folders() -> Iterator[Path]:
    """Folders that rows once named and that no row needs. One without any row is not ours to judge."""
    needed = set(needed_versions().values_list("storage_path", flat=True))
    known = ModelVersion.objects.exclude(storage_path="").values_list("storage_path", flat=True)
    for storage_path in sorted(set(known) - needed):
        yield from _old([full_path(storage_path)])


def _dataset_files() -> Iterator[Path]:
    needed = set(needed_dataset_files().values_list("storage_path", flat=True))
    root = full_path(DATASETS)
    for path in _old(root.glob("*/*.jsonl")):
        if path.relative_to(settings.STORAGE_ROOT).as_posix() not in needed:
            yield path


def _outputs() -> Iterator[Path]:
    """Of jobs that were deleted, or that never came to be. A job that ended keeps its checkpoints."""
    needed = set(
        FineTuningJob.objects.filter(deleted_at__isnull=True)
        .exclude(state=JobState.SUCCEEDED)
        .values_list("public_id", flat=True)
    )
    # What a run that succeeded has made is published: its output is a second copy.
    for path in _old(full_path(OUTPUTS).glob("*")):
        if path.name not in needed:
            yield path


def _incoming() -> Iterator[Path]:
    """What was on its way in when its process died."""
    going = ModelImport.objects.filter(state__in=[ImportState.QUEUED, ImportState.RUNNING])
    names = set(going.values_list("public_id", flat=True))
    for path in _old(full_path(INCOMING).glob("*")):
        if not any(name in path.name for name in names):
            yield path
    yield from _old(full_path(DATASETS).glob(".incoming-*"))


def _old(paths: Iterable[Path]) -> Iterator[Path]:
    """Those that nobody has changed for a while."""
    before = time.time() - settings.PRUNE_AFTER_SECONDS
    for path in paths:
        try:
            changed = path.lstat().st_ctime
        except FileNotFoundError:
            continue
        if changed < before:
            yield path
