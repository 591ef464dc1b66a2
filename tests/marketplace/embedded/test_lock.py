import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace.embedded.lock import HomeIsInUse, HomeLock, find_holder

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from marketplace.embedded.lock import HomeLock
lock = HomeLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_manager_is_refused_and_told_who_has_the_home(tmp_path, holder):
    with pytest.raises(HomeIsInUse) as caught:
        HomeLock(tmp_path).acquire()
    assert str(caught.value) == (
        f"the product already runs in {tmp_path} (process {holder.pid}): see `manage.py status`"
    )
    assert find_holder(tmp_path) == holder.pid


def test_whoever_only_asks_for_the_holder_keeps_nobody_from_starting(tmp_path, monkeypatch):
    reader = (tmp_path / "lock").open("w+")
    fcntl.flock(reader, fcntl.LOCK_SH)
    monkeypatch.setattr("marketplace.embedded.lock.time.sleep", lambda _: reader.close())
    with HomeLock(tmp_path):
        assert find_holder(tmp_path) == os.getpid()


def test_a_killed_manager_gives_the_lock_back(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert find_holder(tmp_path) is None
    with HomeLock(tmp_path):
        assert find_holder(tmp_path) == os.getpid()


def test_a_released_lock_leaves_no_file(tmp_path):
    with HomeLock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    assert find_holder(tmp_path) is None


def test_a_child_does_not_inherit_the_lock(tmp_path):
    with HomeLock(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    assert find_holder(tmp_path) is None
    child.communicate(b"\n")
