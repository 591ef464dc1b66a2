"""A model's files as values: path, size and sha256, and the digest that names them all together.

The digest names the folder in storage, so equal files are kept once, and a changed byte is another folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True, kw_only=True, order=True)
class ManifestFile:
    """One file, with its path relative to the model's folder, written with forward slashes."""

    path: str
    bytes: int
    sha256: str
    """Lower-case hex."""


@dataclass(frozen=True)
class Manifest:
    """All files of a version, sorted by path."""

    files: tuple[ManifestFile, ...]

    @classmethod
    def of(cls, files: Iterable[ManifestFile]) -> Manifest:
        return cls(tuple(sorted(files)))

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON of the files, 64 hex digits."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def revision(self) -> str:
        """What stands in for a commit id when the files come from no repository: 40 hex digits."""
        return self.digest[:40]

    @property
    def total_bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def weights_bytes(self) -> int:
        return sum(file.bytes for file in self.files if file.path.endswith(".safetensors"))

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(file) for file in self.files]

    @classmethod
    def from_json(cls, rows: Iterable[dict[str, Any]]) -> Manifest:
        return cls.of(ManifestFile(**row) for row in rows)


def hash_file(path: Path, *, on_chunk: Callable[[], object] = lambda: None) -> str:
    """sha256 of a file, lower-case hex. `on_chunk` is called as the work goes on, and may raise to end it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            on_chunk()
    return digest.hexdigest()


def read_manifest(folder: Path, *, on_chunk: Callable[[], object] = lambda: None) -> Manifest:
    """Hashes every file below a folder. `on_chunk` as for `hash_file`."""
    return Manifest.of(
        ManifestFile(
            path=path.relative_to(folder).as_posix(),
            bytes=path.stat().st_size,
            sha256=hash_file(path, on_chunk=on_chunk),
        )
        for path in folder.rglob("*")
        if path.is_file()
    )
