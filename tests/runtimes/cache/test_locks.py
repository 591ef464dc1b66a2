from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtimes.cache.locks import (
    KernelLock,
    Lock,
    TouchedLock,
    has_kernel_locks,
    lock_for_use,
    locked_for_removal,
)
from tests.runtimes.cache.storage import ROOT
from tests.waiting import eventually

HOLDER = """
import sys, time
from pathlib import Path
from runtimes.cache.locks import KernelLock, TouchedLock
lock = KernelLock(Path(sys.argv[2])) if sys.argv[1] == "kernel" else TouchedLock(
    Path(sys.argv[2]), touch_seconds=0.05, dead_seconds=1.0)
assert lock.acquire()
print("held", flush=True)
time.sleep(600)
"""
LOCKS: dict[str, Callable[[Path], Lock]] = {
    "kernel": KernelLock,
    "touched": lambda path: TouchedLock(path, touch_seconds=0.05, dead_seconds=1.0),
}


@pytest.fixture(params=LOCKS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def start_holder(kind: str, path: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_one_has_it_until_it_lets_go(kind: str, path: Path):
    first, second = LOCKS[kind](path), LOCKS[kind](path)
    assert [first.acquire(), second.acquire()] == [True, False]
    first.release()
    assert [second.acquire(), first.acquire()] == [True, False]
    second.release()


def test_a_killed_holder_does_not_keep_it(kind: str, path: Path):
    holder = start_holder(kind, path)
    waiting = LOCKS[kind](path)
    assert not waiting.acquire()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    eventually(waiting.acquire, within=10)
    waiting.release()


def test_a_slow_living_holder_keeps_it(path: Path):
    holder = start_holder("touched", path)
    waiting = LOCKS["touched"](path)
    held = path.with_name("lock.held")
    touched: set[int] = set()
    taken: list[bool] = []

    def look() -> bool:
        touched.add(held.stat().st_mtime_ns)
        taken.append(waiting.acquire())
        return len(touched) > 30 or taken[-1]

    # Longer than the time after which it would count as dead.
    eventually(look)
    assert not any(taken)
    holder.kill()
    holder.communicate()


def test_of_two_that_find_a_dead_holder_one_gets_it(path: Path):
    holder = start_holder("touched", path)
    holder.kill()
    holder.communicate()
    waiting = [LOCKS["touched"](path) for _ in range(4)]
    taken: list[Lock] = []

    def ask() -> bool:
        taken.extend(lock for lock in waiting if lock not in taken and lock.acquire())
        return bool(taken)

    eventually(ask, within=10)
    assert len(taken) == 1
    taken[0].release()
    assert list(path.parent.iterdir()) == []


def test_a_robbed_holder_does_not_take_the_lock_of_its_successor_away(path: Path):
    robbed, successor = LOCKS["touched"](path), LOCKS["touched"](path)
    assert robbed.acquire()
    path.with_name("lock.held").unlink()
    assert successor.acquire()
    robbed.release()
    assert not LOCKS["touched"](path).acquire()
    successor.release()


def test_who_waits_for_a_version_that_is_being_removed_does_not_get_it(tmp_path: Path):
    marker = tmp_path / "marker"
    marker.touch()
    with ThreadPoolExecutor() as pool:
        with locked_for_removal(marker) as unused:
            assert unused
            waiting = pool.submit(lock_for_use, marker)
            # It has opened the marker as well, and waits for the lock.
            eventually(lambda: _opened(marker) == 2)
            marker.unlink()
        assert waiting.result() is None


def _opened(path: Path) -> int:
    """How often this process has the file open."""
    return sum(os.path.realpath(handle) == str(path) for handle in Path("/proc/self/fd").iterdir())


def test_it_finds_out_whether_the_file_system_has_locks(tmp_path: Path):
    assert has_kernel_locks(tmp_path)
    assert os.listdir(tmp_path) == []
