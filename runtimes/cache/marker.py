"""The file that makes a folder a whole, verified version: what each of its files was when it was hashed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MARKER = ".verified.json"
"""Beside the version's files. A manifest may not name a file so."""


@dataclass(frozen=True, kw_only=True)
class VerifiedFile:
    """A file at the moment when its sha256 was the manifest's."""

    sha256: str
    bytes: int
    modified_ns: int


def write_marker(folder: Path, files: Mapping[str, VerifiedFile]) -> None:
    """Says that the folder is whole. The files must have reached the disk."""
    text = json.dumps({path: asdict(file) for path, file in sorted(files.items())}, indent=1)
    partial = folder / f"{MARKER}.partial"
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(folder / MARKER)


def read_marker(folder: Path) -> dict[str, VerifiedFile] | None:
    """Relative path -> what was verified; None when there is no marker, or one that cannot be understood."""
    try:
        value: Any = json.loads((folder / MARKER).read_bytes())
        return {path: VerifiedFile(**file) for path, file in value.items()}
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError):
        return None


def verified_bytes(folder: Path, digests: Mapping[str, str]) -> int | None:
    """Size of a folder that holds the files of the manifest (relative path -> sha256) as they were verified.

    None when it does not. Reads the marker and asks for each file's size and time; hashes nothing.
    """
    verified = read_marker(folder)
    if verified is None or {path: file.sha256 for path, file in verified.items()} != dict(digests):
        return None
    for path, file in verified.items():
        try:
            found = (folder / path).stat()
        except OSError:
            return None
        if (found.st_size, found.st_mtime_ns) != (file.bytes, file.modified_ns):
            return None
    return sum(file.bytes for file in verified.values())
