"""Where things lie in a cache, and what is there."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from runtimes.cache.failures import WrongConfiguration
from runtimes.cache.locks import KernelLock, Lock, TouchedLock, has_kernel_locks, locked_for_removal
from runtimes.cache.marker import MARKER, read_marker
from runtimes.cache.plan import Kept

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Cache:
    """A cache on disk. Raises WrongConfiguration when its folder cannot be used."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / ".incoming"
        self.locks = root / ".locks"
        self.trash = root / ".trash"
        try:
            for folder in (self.incoming, self.locks, self.trash):
                folder.mkdir(parents=True, exist_ok=True)
            self.has_kernel_locks = has_kernel_locks(self.locks)
        except OSError as error:
            raise WrongConfiguration(
                f"the cache {root} cannot be written by user {os.getuid()}: {error.strerror}; give the "
                f"folder to that user (chown {os.getuid()}:{os.getgid()}) on every node"
            ) from error

    def lock(self, name: str) -> Lock:
        """The lock of a version, or "room"."""
        path = self.locks / name
        return KernelLock(path) if self.has_kernel_locks else TouchedLock(path)

    def versions(self) -> Iterator[Kept]:
        """The whole versions."""
        for folder in self.root.iterdir():
            if not _DIGEST.fullmatch(folder.name):
                continue
            verified = read_marker(folder)
            with suppress(FileNotFoundError):  # removed meanwhile
                if verified is not None:
                    yield Kept(
                        digest=folder.name,
                        bytes=sum(file.bytes for file in verified.values()),
                        last_used=(folder / MARKER).stat().st_mtime,
                    )

    def partial_versions(self) -> Iterator[Kept]:
        """Versions on their way, and those whose way was broken off."""
        for folder in self.incoming.iterdir():
            with suppress(FileNotFoundError):  # it has arrived, or was removed
                yield Kept(
                    digest=folder.name,
                    bytes=size_of(folder),
                    last_used=max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))),
                    is_whole=False,
                )

    def touch(self, digest: str) -> None:
        """Records that a version is used now."""
        with suppress(FileNotFoundError):
            os.utime(self.root / digest / MARKER)

    def promise(self, digest: str, size: int) -> None:
        """Writes down how large a version will be once it is here; it counts while its lock is held."""
        (self.locks / f"{digest}.bytes").write_text(str(size))

    def promised(self, digest: str) -> int:
        """How large a version will be; 0 when nobody has said."""
        try:
            return int((self.locks / f"{digest}.bytes").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def now(self) -> float:
        """Seconds by the clock of the cache's file system, which may be another machine's."""
        stamp = self.locks / "clock"
        stamp.touch()
        return stamp.stat().st_mtime

    def discard(self, folder: Path) -> None:
        """Takes a folder out of its place at once; `empty_trash` removes it."""
        aside = self.trash / f"{folder.name}-{secrets.token_hex(4)}"
        try:
            # The kubelet makes an empty folder, of another user, where it mounts a version that is gone.
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            folder.rename(aside)

    def set_aside(self, digest: str) -> None:
        """Takes a version that is not as it was verified out of its place; the caller holds its lock.

        Its files are looked at again as those of a version on its way, unless somebody still uses them.
        """
        folder, incoming = self.root / digest, self.incoming / digest
        with locked_for_removal(folder / MARKER) as unused:
            if unused and folder.exists() and not incoming.exists() and any(folder.iterdir()):
                (folder / MARKER).unlink(missing_ok=True)
                folder.rename(incoming)
            else:
                self.discard(folder)

    def empty_trash(self) -> None:
        """Removes what was discarded and is not in use; several may do so at once."""
        for folder in self.trash.iterdir():
            with locked_for_removal(folder / MARKER) as unused:
                if unused:
                    shutil.rmtree(folder, ignore_errors=True)


def check_versions(versions: Mapping[str, Mapping[str, str]]) -> None:
    """Raises WrongConfiguration when a version or one of its files cannot be a name inside the cache."""
    for digest, files in versions.items():
        if not _DIGEST.fullmatch(digest):
            raise WrongConfiguration(f"version {digest!r} is not a digest of 64 lower-case hex digits")
        if not files:
            raise WrongConfiguration(f"the manifest of version {digest} names no file")
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or name.startswith(MARKER) or str(path) != name:
                raise WrongConfiguration(f"the manifest of version {digest} names {name!r}, which it may not")


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder. One that vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                total += path.stat().st_size
    return total
