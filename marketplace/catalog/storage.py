"""Weights on disk: where they are gathered, and the folder, named by their digest, where they stay.

STORAGE_ROOT/models/<digest>/ is complete from the moment it exists, because it appears by one rename; it is
read-only, and nothing is ever written into it again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from django.conf import settings

from marketplace.catalog.manifests import Manifest, hash_file

MODELS = "models"
INCOMING = "models/.incoming"


class StorageDamaged(RuntimeError):
    """Files in storage are not those of the manifest."""


def full_path(storage_path: str) -> Path:
    """Where a version's `storage_path` lies on this machine."""
    return Path(settings.STORAGE_ROOT) / storage_path


def incoming_folder(name: str) -> Path:
    """Where one import gathers its files. Kept across restarts, removed when the import ends."""
    return Path(settings.STORAGE_ROOT) / INCOMING / name


def storage_path_of(manifest: Manifest) -> str:
    return f"{MODELS}/{manifest.digest}"


def holds(manifest: Manifest) -> bool:
    """Whether storage has the folder with every file at its size. Cheap: hashes nothing."""
    folder = full_path(storage_path_of(manifest))
    return folder.is_dir() and all(
        (folder / file.path).is_file() and (folder / file.path).stat().st_size == file.bytes
        for file in manifest.files
    )


def renew(manifest: Manifest) -> None:
    """Makes a stored folder young again, so that it is not removed before the row that needs it is there."""
    os.utime(full_path(storage_path_of(manifest)))


def store(gathered: Path, manifest: Manifest) -> str:
    """Moves a gathered folder to its place and returns the storage path. May run twice; removes `gathered`.

    `gathered` must lie on the storage's own file system, hold the manifest's files and nothing else.
    """
    path = storage_path_of(manifest)
    if not holds(manifest):
        target = full_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Looked at again: another import of the same files may have come to its end meanwhile.
        if target.exists() and not holds(manifest):
            _move_aside(target)
        _make_read_only(gathered)
        try:
            gathered.rename(target)
        except OSError:
            if not holds(manifest):  # else another import of the same files was quicker
                raise
        target.chmod(0o555)
    remove_folder(gathered)
    return path


def verify(manifest: Manifest) -> None:
    """Hashes every stored file. Raises StorageDamaged naming those that differ."""
    folder = full_path(storage_path_of(manifest))
    damaged = [
        file.path
        for file in manifest.files
        if not (folder / file.path).is_file() or hash_file(folder / file.path) != file.sha256
    ]
    if damaged:
        raise StorageDamaged(f"{folder.name}: {', '.join(damaged)}")


def remove_folder(folder: Path) -> None:
    """Removes a folder, read-only or not; a missing one is fine."""
    if not folder.exists():
        return
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def _move_aside(target: Path) -> None:
    """A damaged folder makes room for a whole one. It is renamed first, so that none is ever half there."""
    aside = target.with_name(f".damaged-{target.name}")
    remove_folder(aside)
    target.chmod(0o755)
    target.rename(aside)
    remove_folder(aside)


def _make_read_only(folder: Path) -> None:
    # The folder itself last, and still writable for its owner: renaming a folder writes its ".." entry.
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
