"""Runs of containers: starts one, finds one again, tells alive from dead. Linux only.

A run has three files in `attempts/<pod uid>/`: `<n>.json` is what to run and the lock, held by the shim for
as long as it lives; `<n>.start` exists once it has begun; `<n>.exit` once it has ended, with all it started.

The node locks `<n>.json` before the shim exists and hands the open file down, so that at no moment an
unlocked run without a start is anything but a run that never was.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import psutil

from deployments.clusters.local.containers import MARKER
from deployments.clusters.local.store import read_json

SHIM = Path(__file__).with_name("shim.py")


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a run ended."""

    code: int
    """Exit code of the container's process; 128 + number of the signal that killed it."""
    at: datetime
    stopped: bool
    """It had been told to stop."""


class Trace(Enum):
    """What the files of a run say about it."""

    NONE = "it never began"
    ALIVE = "its shim is running"
    ENDED = "it ended and said how"
    LOST = "its shim was killed"


class Attempt:
    """One run whose shim this process watches: `fileno()` becomes readable when the shim is gone."""

    def __init__(
        self, folder: Path, number: int, *, pid: int, process: subprocess.Popen[bytes] | None
    ) -> None:
        self.folder = folder
        self.number = number
        self.pid = pid
        self._process = process  # ours to collect; None when another node process had started it
        self._pidfd = os.pidfd_open(pid)
        self.is_stopping = False

    def fileno(self) -> int:
        return self._pidfd

    @classmethod
    def start(cls, folder: Path, number: int, instruction: Mapping[str, Any]) -> Attempt:
        """Runs the instruction. `folder/<number>.json` must not exist: no run is started twice."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        base = folder / str(number)
        descriptor = os.open(f"{base}.json", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, json.dumps(instruction).encode())
            with open(f"{base}.err", "ab") as errors:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(SHIM), str(descriptor), str(base)],
                    env={},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    pass_fds=(descriptor,),
                    start_new_session=True,
                )
        except OSError:
            discard(folder, number)  # it never began, and the next try takes the same number
            raise
        finally:
            os.close(descriptor)
        return cls(folder, number, pid=process.pid, process=process)

    @classmethod
    def adopt(cls, folder: Path, number: int) -> Attempt | None:
        """Watches a shim that an earlier node process started; None if it is gone or has not begun yet."""
        start = read_json(folder / f"{number}.start")
        if start is None:
            return None
        try:
            attempt = cls(folder, number, pid=start["pid"], process=None)
        except ProcessLookupError:
            return None
        # The lock is held after the process was opened: so the process opened is the one that holds it.
        if is_locked(folder / f"{number}.json"):
            return attempt
        attempt.close()
        return None

    def stop(self) -> None:
        """Asks the container to end; its shim kills it when the grace period is over. Safe to repeat."""
        if not self.is_stopping:
            self.is_stopping = True
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def kill(self) -> None:
        """Ends the grace period now. The shim lives on to clean up and to write how it ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGALRM)

    @property
    def started_at(self) -> datetime | None:
        return started_at(self.folder, self.number)

    def close(self) -> None:
        """Forgets the shim; collects it if it was a child and is gone."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._process is not None:
            self._process.wait()

    def release(self) -> None:
        """Lets go of a shim that goes on running."""
        os.close(self._pidfd)
        self._pidfd = -1


def newest(folder: Path) -> int:
    """Number of the newest run in the folder, 0 if there is none."""
    with suppress(FileNotFoundError):
        return max((int(path.stem) for path in folder.glob("*.json")), default=0)
    return 0


def trace(folder: Path, number: int) -> Trace:
    """What became of a run, whoever started it."""
    if is_locked(folder / f"{number}.json"):
        return Trace.ALIVE
    if (folder / f"{number}.exit").exists():
        return Trace.ENDED
    return Trace.LOST if (folder / f"{number}.start").exists() else Trace.NONE


def is_locked(path: Path) -> bool:
    """Whether a shim holds the run. Only the node asks, so that no two askers meet."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def started_at(folder: Path, number: int) -> datetime | None:
    record = read_json(folder / f"{number}.start")
    return _time(record["started_at"]) if record else None


def read_exit(folder: Path, number: int) -> Exit | None:
    record = read_json(folder / f"{number}.exit")
    if record is None:
        return None
    return Exit(code=record["exit_code"], at=_time(record["finished_at"]), stopped=record["stopped"])


def discard(folder: Path, number: int) -> None:
    """Removes the files of a run that never began, so that its number can be used."""
    for suffix in ("json", "err"):
        (folder / f"{number}.{suffix}").unlink(missing_ok=True)


def kill_escaped(uid: str, number: int) -> None:
    """Kills what a run left behind when its shim was killed: found by the marker in their environment."""
    marker = f"{uid}/{number}"
    while True:
        found = False
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE or process.environ().get(MARKER) != marker:
                    continue
                process.kill()  # psutil compares start times first: never a reused process id
                process.wait(timeout=5)
                found = True
        if not found:
            return


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
