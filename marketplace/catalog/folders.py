"""Models that already lie in a folder: what is in it, and copying it to where an import gathers its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from marketplace.catalog.manifests import CHUNK_BYTES, Manifest, ManifestFile, hash_file
from marketplace.catalog.safety import (
    Refusal,
    UnsafeModel,
    check_content,
    check_path,
    check_selection,
    check_sizes,
)
from marketplace.catalog.selection import select_files


class FolderMissing(ValueError):
    """There is no such folder."""


def list_folder(folder: Path) -> dict[str, int]:
    """The wanted files of a folder and their sizes in bytes.

    Raises FolderMissing, and UnsafeModel with every reason why the folder is not taken.
    """
    if not folder.is_dir():
        raise FolderMissing(f"there is no folder {folder}")
    found = [
        Path(parent, name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder)  # does not follow links to folders
        for name in names
    ]
    selection = select_files(found)
    refusals: list[Refusal] = check_selection(selection, strict=True)
    for path in selection.wanted:
        refusals += check_path(folder, path)
    if not refusals:
        sizes = {path: (folder / path).stat().st_size for path in selection.wanted}
        refusals = check_sizes(sizes)
    if refusals:
        raise UnsafeModel(refusals)
    return sizes


def read_folder(folder: Path) -> Manifest:
    """The wanted files of a folder, checked inside and hashed. Raises FolderMissing or UnsafeModel."""
    sizes = list_folder(folder)
    refusals = [refusal for path in sizes for refusal in check_content(folder, path)]
    if refusals:
        raise UnsafeModel(refusals)
    return Manifest.of(
        ManifestFile(path=path, bytes=size, sha256=hash_file(folder / path)) for path, size in sizes.items()
    )


def copy_file(*, source: Path, target: Path, on_chunk: Callable[[], object] = lambda: None) -> None:
    """Copies one file; `target` is either whole or absent, whenever the process dies.

    `on_chunk` is called as the work goes on, and may raise to end it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with source.open("rb") as reader, part.open("wb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            writer.write(chunk)
            on_chunk()
        writer.flush()
        os.fsync(writer.fileno())
    part.replace(target)
