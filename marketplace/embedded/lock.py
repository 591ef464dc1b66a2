"""One manager per home: a lock that the kernel gives back when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import IO

WAIT_SECONDS = 1.0
"""How long to wait for the lock: readers that ask who holds it have it for an instant."""
RETRY_SECONDS = 0.01


class HomeIsInUse(Exception):
    """Another manager runs in this home. `pid` is that manager's."""

    def __init__(self, pid: int, root: Path) -> None:
        super().__init__(f"the product already runs in {root} (process {pid}): see `manage.py status`")
        self.pid = pid


class HomeLock:
    """Held from `acquire` until `release` or the end of the process; child processes do not inherit it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "lock"
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Takes the lock, or raises HomeIsInUse after WAIT_SECONDS."""
        self.root.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            file = self.path.open("a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = _read_pid(file)
                file.close()
                if time.monotonic() >= deadline:
                    raise HomeIsInUse(pid, self.root) from None
                time.sleep(RETRY_SECONDS)
                continue
            if _is_still(file, self.path):
                break
            file.close()  # its last holder removed the file between our open and our lock
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Removes the file, then the lock: whoever waited for that file notices that it is gone."""
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def __enter__(self) -> HomeLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def find_holder(root: Path) -> int | None:
    """Pid of the manager that runs in this home; None when none does."""
    try:
        file = (root / "lock").open("r")
    except FileNotFoundError:
        return None
    with file:
        try:
            # A shared lock is refused while a manager holds its own, and hinders no other reader.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_pid(file)
    return None


def _read_pid(file: IO[str]) -> int:
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdigit() else 0  # 0: it has the lock, and has not written its pid yet


def _is_still(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
