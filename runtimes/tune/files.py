"""Writing that survives a crash: a file or folder is there whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


def write_file(path: Path, data: bytes) -> None:
    """Writes one file in one step. The unfinished file has a fixed name, so that a later try replaces it."""
    part = path.with_name(f".{path.name}.part")
    _write(part, data)
    part.replace(path)
    _sync_folder(path.parent)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes a folder with these files in one step; one that is already there is replaced."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, data in files.items():
        _write(part / name, data)
    _sync_folder(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    _sync_folder(folder.parent)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
