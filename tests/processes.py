"""What the tests ask about real processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil


def processes_of(home: Path) -> list[str]:
    """Every living process that has to do with this folder, as "pid command".

    By command, working folder (PostgreSQL's own processes stand in its data) or environment.
    """
    found = []
    text = str(home)
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            command = " ".join(process.cmdline())
            places = (command, process.cwd(), process.environ().get("MARKETPLACE_HOME", ""))
            if process.status() != psutil.STATUS_ZOMBIE and any(text in place for place in places):
                found.append(f"{process.pid} {command}")
    return found


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def wait_until(condition: Callable[[], bool], *, seconds: float = 30.0, what: str = "it") -> None:
    """Returns when the condition holds. Raises AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.02)
