"""Brings a version from the storage into the cache: once, whoever asks for it, however often it is killed."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from runtimes.cache.copying import copy_and_hash
from runtimes.cache.failures import NoSpace, Stopped, WeightsCorrupt, WeightsMissing
from runtimes.cache.layout import Cache, size_of
from runtimes.cache.marker import VerifiedFile, verified_bytes, write_marker
from runtimes.cache.plan import gib
from runtimes.cache.progress import Reporter
from runtimes.cache.room import Space, make_room, space_of
from runtimes.contract import WEIGHTS_SECONDS, WeightsPhase

POLL_SECONDS = 0.5
"""Between two looks at what another process does. Not left to the kernel's queue: one look at the marker lets
all who wait go on at once."""
FILES_AT_ONCE = 4
"""More would not make one network or one disk quicker."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """What to bring."""

    digest: str
    files: Mapping[str, str]
    """Relative path -> lower-case hex sha256."""
    source: Path
    """The version's folder on the storage."""

    def sizes(self) -> dict[str, int]:
        """Relative path -> bytes on the storage. Raises WeightsMissing naming the first that is not there."""
        sizes = {}
        for name in self.files:
            try:
                sizes[name] = (self.source / name).stat().st_size
            except (FileNotFoundError, NotADirectoryError) as error:
                raise WeightsMissing(
                    f"the storage has no file {name!r} of version {self.digest}; import the version again"
                ) from error
        return sizes


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Brings versions for one pod."""

    cache: Cache
    reporter: Reporter
    stop: threading.Event
    """Set = give up at the next block."""
    needed: Collection[str]
    """Digests of all versions of the pod, which are not removed for each other."""
    free_share: float
    space: Space = field(default=space_of)

    def size(self, version: Version) -> int:
        """Bytes of a version: as the cache verified it, else as it lies on the storage."""
        verified = verified_bytes(self.cache.root / version.digest, version.files)
        return sum(version.sizes().values()) if verified is None else verified

    def bring(self, version: Version) -> None:
        """Returns once the cache holds the version. Raises CacheFailure.

        1. It is there: done, after one look at the marker and at each file's size and time.
        2. Nobody brings it: bring it, from where the last one came to.
        3. Somebody does: tell how far that is, look again.
        """
        lock = self.cache.lock(version.digest)
        while not self._has(version):
            if lock.acquire():
                try:
                    if not self._has(version):
                        self._fetch(version)
                    return
                finally:
                    lock.release()
            self.reporter.tell(WeightsPhase.WAITING, extra=size_of(self.cache.incoming / version.digest))
            self._pause()

    def _has(self, version: Version) -> bool:
        size = verified_bytes(self.cache.root / version.digest, version.files)
        if size is None:
            return False
        self.cache.touch(version.digest)
        self.reporter.count(size, fetched=False)
        return True

    def _fetch(self, version: Version) -> None:
        sizes = version.sizes()
        self.cache.set_aside(version.digest)
        self._make_room(version, size=sum(sizes.values()))
        folder = self.cache.incoming / version.digest
        folder.mkdir(exist_ok=True)
        try:
            verified = self._copy_files(version, sizes=sizes, folder=folder)
            write_marker(folder, verified)
            _sync(folder)
            folder.rename(self.cache.root / version.digest)
            _sync(self.cache.root)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            total, free = self.space(self.cache.root)
            raise NoSpace(
                f"the cache ran full while version {version.digest[:12]} ({gib(sum(sizes.values()))}) was "
                f"copied: {gib(free)} of {gib(total)} are free; something else writes to that disk"
            ) from error

    def _make_room(self, version: Version, *, size: int) -> None:
        lock = self.cache.lock("room")
        while not lock.acquire():
            self.reporter.tell(WeightsPhase.MAKING_ROOM)
            self._pause()
        try:
            make_room(
                self.cache,
                version.digest,
                size=size,
                needed=self.needed,
                free_share=self.free_share,
                space=self.space,
                on_removal=lambda kept: self.reporter.tell(
                    WeightsPhase.MAKING_ROOM, message=f"removed {kept.digest[:12]}, {gib(kept.bytes)}"
                ),
            )
        finally:
            lock.release()

    def _copy_files(
        self, version: Version, *, sizes: Mapping[str, int], folder: Path
    ) -> dict[str, VerifiedFile]:
        failed = threading.Event()

        def on_read(size: int, fetched: bool) -> None:
            if self.stop.is_set() or failed.is_set():
                raise Stopped("the container was asked to stop; what was copied is kept")
            self.reporter.count(size, fetched=fetched)

        # The largest first, so that no thread is left with it in the end.
        names = sorted(sizes, key=lambda name: (-sizes[name], name))
        workers = min(FILES_AT_ONCE, len(os.sched_getaffinity(0)), len(names))
        with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="copy") as pool:
            copies: dict[str, Future[VerifiedFile]] = {
                name: pool.submit(_copy_file, version, name, folder=folder, on_read=on_read) for name in names
            }
            running: Collection[Future[VerifiedFile]] = copies.values()
            while running:
                self.reporter.tell(WeightsPhase.FETCHING)
                done, running = wait(running, timeout=WEIGHTS_SECONDS, return_when=FIRST_EXCEPTION)
                if any(copy.exception() for copy in done):
                    failed.set()
        # What went wrong first made the others stop.
        errors = [error for copy in copies.values() if (error := copy.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
            raise error
        return {name: copy.result() for name, copy in copies.items()}

    def _pause(self) -> None:
        if self.stop.wait(POLL_SECONDS):
            raise Stopped("the container was asked to stop while it waited")


def _copy_file(
    version: Version, name: str, *, folder: Path, on_read: Callable[[int, bool], object]
) -> VerifiedFile:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    counted = 0

    def count(size: int, fetched: bool) -> None:
        nonlocal counted
        on_read(size, fetched)
        counted += size

    while True:
        was_begun = target.exists() and target.stat().st_size > 0
        try:
            digest = copy_and_hash(version.source / name, target, on_read=count)
        except FileNotFoundError as error:
            raise WeightsMissing(f"the storage lost {name!r} of version {version.digest}") from error
        if digest == version.files[name].lower():
            found = target.stat()
            return VerifiedFile(
                sha256=version.files[name], bytes=found.st_size, modified_ns=found.st_mtime_ns
            )
        target.unlink()
        on_read(-counted, False)
        counted = 0
        if not was_begun:
            raise WeightsCorrupt(
                f"{name!r} of version {version.digest} on the storage is not the file that was approved: its "
                f"sha256 is {digest}, the manifest says {version.files[name]}; import the version again"
            )
        # The kept part may be what a power loss left of it: once more, from the beginning.


def _sync(folder: Path) -> None:
    """Sees to it that the names in a folder have reached the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
