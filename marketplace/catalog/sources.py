"""Where an import gets a model from: a repository of the hub, or a folder, behind one protocol."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings

from marketplace.catalog import hub
from marketplace.catalog.folders import list_folder
from marketplace.catalog.manifests import CHUNK_BYTES, hash_file
from marketplace.catalog.safety import UnsafeModel, check_selection, check_sizes
from marketplace.catalog.selection import select_files

HUB = "hub:"
FOLDER = "folder:"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")


class SourceRefused(ValueError):
    """The text names no source, or a folder that is not open to imports. The message says what is."""


class SourceChanged(RuntimeError):
    """A file of the folder became shorter while it was copied."""


@dataclass(frozen=True, kw_only=True)
class PlannedFile:
    """One file to bring."""

    path: str
    bytes: int
    sha256: str = ""
    """Lower-case hex; empty until known."""
    blob_id: str = ""
    """Git's id, for the small files of a repository."""
    done: bool = False
    """It lies in the import's folder under its own name, verified and checked."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What a source holds now."""

    files: tuple[PlannedFile, ...]
    revision: str = ""
    """Commit of the repository; empty for a folder, whose revision comes from its files."""
    reported: Mapping[str, Any] = field(default_factory=dict)
    """What the source says of the model: {"license", "gated", "task"}."""


class Source(Protocol):
    def resolve(self, revision: str) -> Resolved:
        """Lists the files. Raises HubError, UnsafeModel or FolderMissing."""

    def fetch(
        self,
        file: PlannedFile,
        *,
        revision: str,
        part: Path,
        stop_at: float,
        progress: Callable[[int], None],
    ) -> bool:
        """Appends to `part` until the file is complete or `time.monotonic()` is past `stop_at`."""

    def verify(self, file: PlannedFile, part: Path, *, on_chunk: Callable[[], object]) -> str:
        """The sha256 of a complete `part`, once it is known to be what the source lists.

        Calls `on_chunk` all along: hashing a large file takes minutes.
        """


def open_source(text: str) -> Source:
    """The source that "hub:owner/name" or "folder:/path" names. Raises SourceRefused."""
    if text.startswith(HUB) and REPOSITORY.match(text.removeprefix(HUB)):
        return HubSource(text.removeprefix(HUB))
    if text.startswith(FOLDER) and Path(text.removeprefix(FOLDER)).is_absolute():
        folder = Path(text.removeprefix(FOLDER)).resolve()
        if any(folder.is_relative_to(open_folder) for open_folder in settings.MODEL_FOLDERS):
            return FolderSource(folder)
        places = ", ".join(str(open_folder) for open_folder in settings.MODEL_FOLDERS)
        raise SourceRefused(f"{folder} is not open to imports: put the model below {places} (MODEL_FOLDERS)")
    raise SourceRefused(f"{text!r} is not a source: write hub:owner/name, or folder: and an absolute path")


@dataclass(frozen=True)
class HubSource:
    repository: str

    def resolve(self, revision: str) -> Resolved:
        model = hub.inspect(self.repository, revision=revision)
        listed = {file.path: file for file in model.files}
        selection = select_files(listed)
        sizes = {path: listed[path].bytes for path in selection.wanted}
        refusals = check_selection(selection, strict=False) + check_sizes(sizes)
        if refusals:
            raise UnsafeModel(refusals)
        return Resolved(
            files=tuple(PlannedFile(**asdict(listed[path])) for path in selection.wanted),
            revision=model.revision,
            reported={"license": model.license, "gated": model.gated, "task": model.task},
        )

    def fetch(
        self,
        file: PlannedFile,
        *,
        revision: str,
        part: Path,
        stop_at: float,
        progress: Callable[[int], None],
    ) -> bool:
        return hub.fetch(
            self.repository,
            _hub_file(file),
            revision=revision,
            part=part,
            stop_at=stop_at,
            progress=progress,
        )

    def verify(self, file: PlannedFile, part: Path, *, on_chunk: Callable[[], object]) -> str:
        return hub.verify(self.repository, _hub_file(file), part, on_chunk=on_chunk)


def _hub_file(file: PlannedFile) -> hub.HubFile:
    return hub.HubFile(path=file.path, bytes=file.bytes, sha256=file.sha256, blob_id=file.blob_id)


@dataclass(frozen=True)
class FolderSource:
    folder: Path

    def resolve(self, revision: str) -> Resolved:
        sizes = list_folder(self.folder)
        return Resolved(files=tuple(PlannedFile(path=path, bytes=size) for path, size in sizes.items()))

    def fetch(
        self,
        file: PlannedFile,
        *,
        revision: str,
        part: Path,
        stop_at: float,
        progress: Callable[[int], None],
    ) -> bool:
        part.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder / file.path).open("rb") as reader, part.open("ab") as writer:
            reader.seek(writer.tell())
            while writer.tell() < file.bytes:
                chunk = reader.read(min(CHUNK_BYTES, file.bytes - writer.tell()))
                if not chunk:
                    raise SourceChanged(f"{file.path} ended before its {file.bytes} bytes")
                writer.write(chunk)
                progress(writer.tell())
                if time.monotonic() >= stop_at:
                    break
            return writer.tell() == file.bytes

    def verify(self, file: PlannedFile, part: Path, *, on_chunk: Callable[[], object]) -> str:
        copied = hash_file(part, on_chunk=on_chunk)
        if copied != hash_file(self.folder / file.path, on_chunk=on_chunk):
            part.unlink()
            raise SourceChanged(f"{file.path} changed while it was copied")
        return copied
