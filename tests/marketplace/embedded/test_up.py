"""`manage.py up` with every component, killed one after the other: the whole product, for real."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from marketplace.embedded.addresses import accepts_connections
from marketplace.embedded.lock import find_holder
from marketplace.embedded.state import read_state
from tests.processes import is_alive, processes_of, wait_until

ROOT = Path(__file__).parents[3]
COMPONENTS = ["postgres", "valkey", "cluster", "worker", "beat", "watch", "web", "gateway"]


@pytest.fixture(scope="module")
def home():
    root = Path(tempfile.mkdtemp(prefix="marketplace-up-"))
    yield root
    manage(root, "down")
    shutil.rmtree(root)


def manage(home, *arguments):
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "BROKER_URL")
    } | {"MARKETPLACE_HOME": str(home)}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)


def up(home):
    done = manage(home, "up", "--detach", "--no-seed", "--ports", "auto")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def running(home):
    """The product, up; started once for all tests that do not take it down."""
    if find_holder(home) is None:
        up(home)
    return read_state(home)


@pytest.mark.timeout(240)
def test_up_starts_every_component_and_tells_where_it_is(home):
    manage(home, "down")
    printed = up(home)
    state = read_state(home)
    credentials = json.loads((home / "credentials.json").read_text())

    assert list(state.components) == COMPONENTS
    for told in (state.web_url, state.gateway_url, credentials["api_key"], credentials["admin_password"]):
        assert told in printed
    assert manage(home, "status").returncode == 0
    request = urllib.request.Request(
        f"{state.web_url}/api/v1/me/", headers={"Authorization": f"Bearer {credentials['api_key']}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


@pytest.mark.timeout(240)
def test_a_second_up_in_the_same_home_is_refused(home, running):
    for arguments in (["up"], ["up", "--detach"]):
        done = manage(home, *arguments)
        assert done.returncode == 1
        assert f"already runs in {home} (process {running.manager})" in done.stderr
    assert find_holder(home) == running.manager


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", COMPONENTS)
def test_a_killed_component_is_started_again(home, running, name):
    before = running.components[name]
    os.kill(before.pid, signal.SIGKILL)

    def back():
        components = read_state(home).components
        pids = [component.pid for component in components.values()]
        return components[name].restarts > before.restarts and all(pid and is_alive(pid) for pid in pids)

    wait_until(back, seconds=60, what=f"the restart of {name} with everything up")
    assert not is_alive(before.pid)
    assert f"{name} ended with SIGKILL; starting it again" in (home / "logs" / "up.log").read_text()


@pytest.mark.timeout(240)
def test_down_leaves_no_process_port_socket_or_lock(home, running):
    assert manage(home, "down").stdout == "stopped\n"
    assert processes_of(home) == []
    assert not any(map(accepts_connections, (running.web_url, running.gateway_url)))
    assert list((home / "run").iterdir()) == []
    assert not (home / "lock").exists()
    assert not (home / "state.json").exists()
    assert manage(home, "status").returncode == 3
    assert manage(home, "down").stdout == f"nothing runs in {home}\n"


@pytest.mark.timeout(240)
def test_a_killed_manager_leaves_nothing_and_up_works_again(home, running):
    os.kill(running.manager, signal.SIGKILL)
    wait_until(lambda: processes_of(home) == [], seconds=60, what="the end of every process")
    assert find_holder(home) is None
    up(home)
    assert manage(home, "status").returncode == 0


@pytest.mark.timeout(240)
def test_ctrl_c_stops_everything(home):
    manage(home, "down")
    environment = os.environ | {"MARKETPLACE_HOME": str(home)}
    command = [sys.executable, "manage.py", "up", "--no-seed", "--ports", "auto"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "ready; Ctrl-C stops everything" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().endswith("up           | stopped\n")
    assert process.returncode == 0
    assert processes_of(home) == []
