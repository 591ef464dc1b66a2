"""The node process of a local cluster, as tests start, kill and stop it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from deployments.clusters.local.cluster import LocalCluster
from deployments.clusters.local.containers import MARKER
from deployments.clusters.port import LogLine, ObservedPod
from tests.processes import is_alive, wait_until

CHECKOUT = Path(__file__).resolve().parents[3]
CONTAINER = [sys.executable, "-S", str(CHECKOUT / "tests/deployments/clusters/container.py")]


class LocalNode:
    """A local cluster in a folder of its own, and the process that runs it."""

    def __init__(self, home: Path, *, cpu: str = "64", memory: str = "64Gi") -> None:
        self.home = home
        self.cpu, self.memory = cpu, memory
        self.cluster = LocalCluster(name="local", root=home / "cluster")
        self.process: subprocess.Popen[bytes] | None = None
        home.mkdir(parents=True, exist_ok=True)
        (home / "images.json").write_text(json.dumps({"tests/container": {"command": CONTAINER}}))

    @property
    def storage(self) -> Path:
        return self.home / "storage"

    def spawn(self) -> subprocess.Popen[bytes]:
        """Starts a node process, without waiting for anything."""
        command = [sys.executable, "-m", "tests.deployments.clusters.run_node"]
        return self.spawn_command([*command, str(self.home), self.cpu, self.memory])

    def spawn_command(self, command: list[str], **more: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "DATABASE_URL": "postgres://a-secret@nowhere/none", **more}
        with open(self.home / "node.log", "ab") as log:
            return subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=log, stderr=log)

    def start(self, process: subprocess.Popen[bytes] | None = None) -> None:
        """Starts the node, or takes over a process that is it, and waits until it is up."""
        self.process = process or self.spawn()
        wait_until(self._is_up, what="the node's start")

    def _is_up(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log()
        lock = self.cluster.store.node_lock
        return lock.exists() and lock.read_text() == json.dumps({"pid": self.process.pid})

    def log(self) -> str:
        return (self.home / "node.log").read_text()

    def kill(self) -> None:
        """kill -9 of the node alone; containers live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM: the node goes down with its containers."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0, self.log()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        for process in self.processes():
            process.kill()

    # --- What is there -------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Every living process of the containers of this node: shims and what they run."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                marked = MARKER in process.environ() and str(self.home) in process.environ()["HOME"]
                if marked or f"{self.home}/cluster/attempts" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def shim_pid(self, pod: ObservedPod) -> int:
        folder = self.cluster.store.attempts(pod.uid)
        pid: int = json.loads((folder / f"{pod.restarts + 1}.start").read_text())["pid"]
        return pid


def pods(cluster: LocalCluster, resource: str) -> list[ObservedPod]:
    return list(cluster.observe(resource).pods)


def wait_for_pods(
    cluster: LocalCluster,
    resource: str,
    condition: Callable[[list[ObservedPod]], object],
    *,
    seconds: float = 30,
) -> list[ObservedPod]:
    """The pods of the resource once they satisfy the condition."""
    found: list[ObservedPod] = []

    def holds() -> bool:
        found[:] = pods(cluster, resource)
        return bool(condition(found))

    try:
        wait_until(holds, seconds=seconds, what=f"what was waited for of {resource}")
    except AssertionError as error:
        raise AssertionError(f"{error}; now: {found}") from error
    return found


def all_ready(count: int = 1) -> Callable[[list[ObservedPod]], bool]:
    return lambda found: len(found) == count and all(pod.ready for pod in found)


def get(pod: ObservedPod, path: str) -> str:
    """What the container answers."""
    with urllib.request.urlopen(f"http://{pod.address}{path}", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def kill(pid: int) -> None:
    """kill -9, and waits until it is gone."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), what=f"the end of {pid}")
