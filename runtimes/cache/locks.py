"""Locks between the processes of a node, or of all nodes that share a file system.

The kernel's (flock) wherever the file system has them: they end with their holder, however it ends. Elsewhere
a file that its holder touches; it belongs to nobody once it has not been touched for DEAD_SECONDS by the
watch of whoever waits, so no two clocks are compared. Two holders at once are possible then in rare moments
(a holder that was frozen, two takers): that costs a second copy of equal bytes, never a wrong one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

TOUCH_SECONDS = 5.0
DEAD_SECONDS = 30.0

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Lock(Protocol):
    """A lock that one process at a time can have. Asking again is how a dead holder is found out."""

    def acquire(self) -> bool:
        """Takes the lock if nobody has it, without waiting."""
        ...

    def release(self) -> None: ...


class KernelLock:
    """flock on a file that stays where it is: an unlinked one could be held twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def acquire(self) -> bool:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if not _flock(handle, fcntl.LOCK_EX):
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class TouchedLock:
    """A file that exists as long as the lock is held, and is touched meanwhile."""

    def __init__(
        self, path: Path, *, touch_seconds: float = TOUCH_SECONDS, dead_seconds: float = DEAD_SECONDS
    ) -> None:
        self._path = path.with_name(f"{path.name}.held")
        self._touch_seconds = touch_seconds
        self._dead_seconds = dead_seconds
        self._token = secrets.token_hex(8)
        self._seen: tuple[tuple[str, int], float] | None = None
        self._released = threading.Event()
        self._toucher: threading.Thread | None = None

    def acquire(self) -> bool:
        if not self._create():
            holder = self._dead_holder()
            if holder is None or not self._remove(holder) or not self._create():
                return False
        self._released.clear()
        self._toucher = threading.Thread(target=self._touch, name="touch-lock", daemon=True)
        self._toucher.start()
        return True

    def release(self) -> None:
        if self._toucher is None:
            return
        self._released.set()
        self._toucher.join()
        self._toucher = None
        # Somebody who took us for dead may have it by now.
        if self._holder() == self._token:
            self._path.unlink(missing_ok=True)

    def _create(self) -> bool:
        # Linked, so that the file is never there without its holder's name.
        mine = self._path.with_name(f"{self._path.name}-{self._token}")
        mine.write_text(self._token)
        try:
            os.link(mine, self._path)
        except FileExistsError:
            return False
        finally:
            mine.unlink()
        return True

    def _dead_holder(self) -> str | None:
        """Who has held the lock without touching it for too long; None = nobody that we know of."""
        try:
            now = (self._path.read_text(), self._path.stat().st_mtime_ns)
        except FileNotFoundError:
            return None
        if self._seen is None or self._seen[0] != now:
            self._seen = (now, time.monotonic())
            return None
        return now[0] if time.monotonic() - self._seen[1] > self._dead_seconds else None

    def _remove(self, holder: str) -> bool:
        """Takes the lock from a dead holder, unless somebody else was quicker."""
        aside = self._path.with_name(f"{self._path.name}-dead-{self._token}")
        try:
            self._path.rename(aside)
        except FileNotFoundError:
            return True
        taken = aside.read_text()
        if taken != holder:
            # It was a living one's already: give it back.
            with suppress(FileExistsError):
                os.link(aside, self._path)
        aside.unlink()
        return taken == holder

    def _touch(self) -> None:
        while not self._released.wait(self._touch_seconds):
            if self._holder() != self._token:
                return
            with suppress(OSError):
                os.utime(self._path)

    def _holder(self) -> str:
        try:
            return self._path.read_text()
        except OSError:
            return ""


def has_kernel_locks(folder: Path) -> bool:
    """Whether the folder's file system knows flock."""
    probe = folder / f".probe-{secrets.token_hex(8)}"
    handle = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return _flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    finally:
        os.close(handle)
        probe.unlink()


@contextmanager
def locked_for_removal(marker: Path) -> Iterator[bool]:
    """Whether nobody uses what the marker stands for; nobody can begin to until the end of the block.

    On a file system without locks that cannot be known: False.
    """
    try:
        # NFS grants an exclusive lock only on a file that is open for writing.
        handle = os.open(marker, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            unused = _flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            unused = False
        yield unused
    finally:
        os.close(handle)


def lock_for_use(marker: Path) -> int | None:
    """Keeps what the marker stands for from being removed until the handle is closed or the process ends.

    None when it is being removed, or has been. A file system without locks has nothing removed.
    """
    try:
        handle = os.open(marker, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        _flock(handle, fcntl.LOCK_SH, wait=True)
        # Whoever removes takes the marker away before anything else.
        if os.path.samestat(os.fstat(handle), marker.stat()):
            return handle
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return handle
        os.close(handle)
        raise
    os.close(handle)
    return None


def _flock(handle: int, kind: int, *, wait: bool = False) -> bool:
    try:
        fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
