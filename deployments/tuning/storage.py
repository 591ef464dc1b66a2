"""Where datasets and the outputs of jobs lie below the storage root.

A dataset file is named by its digest and never changes. What a job writes lies in a folder of its own; once
published, the result is copied among the models.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from marketplace.catalog.storage import full_path

DATASETS = "datasets"
OUTPUTS = "outputs"
CHECKPOINTS = "checkpoints"
"""Folder below a job's own."""


def dataset_path(*, organization: str, digest: str) -> str:
    """Storage path of a dataset file of an organization (public id)."""
    return f"{DATASETS}/{organization}/{digest}.jsonl"


def output_path(job: str) -> str:
    """Storage path of the folder that a job (public id) writes into."""
    return f"{OUTPUTS}/{job}"


def prepare_output(job: str) -> None:
    """Makes the folder that a job writes into, as the user that runs us, who is the runtime's too.

    A kubelet that finds it missing would make it itself, as root, and the run could not write there.
    """
    full_path(output_path(job)).mkdir(parents=True, exist_ok=True)


class Incoming:
    """A file on its way in: written aside, hashed while it is written, and kept only on `keep`."""

    def __init__(self) -> None:
        folder = full_path(DATASETS)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.NamedTemporaryFile(dir=folder, prefix=".incoming-", delete=False)  # noqa: SIM115
        self._digest = hashlib.sha256()
        self.bytes = 0

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        with suppress(FileNotFoundError):  # it was kept
            os.unlink(self._file.name)

    def write(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self._file.write(chunk)
            self._digest.update(chunk)
            self.bytes += len(chunk)
        self._file.flush()
        os.fsync(self._file.fileno())

    @property
    def path(self) -> Path:
        return Path(self._file.name)

    @property
    def digest(self) -> str:
        """sha256 of what was written, hex."""
        return self._digest.hexdigest()

    def keep(self, storage_path: str) -> None:
        """Puts the file in its place in one rename; a second time it replaces equal bytes by equal bytes."""
        target = full_path(storage_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Runtime containers read it as another user.
        self.path.chmod(0o444)
        os.replace(self.path, target)
