"""The running product as chaos sees it: its manager, its components, its REST API, its pods."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from deployments.clusters.local.containers import MARKER
from marketplace.embedded.lock import find_holder
from marketplace.embedded.paths import Home
from marketplace.embedded.state import ManagerState, read_state

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0
"""How long a request is repeated while web or the database are down."""


class Refused(Exception):
    """The API answered with a problem that repeating will not mend."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.request.method} {response.request.url.path}: {response.text[:500]}")
        self.status = response.status_code


class Product:
    """One installation in a home of its own."""

    def __init__(self, home: Path, *, real: bool, cpu: str = "64") -> None:
        self.home = Home(home)
        images = home / "images.json"
        standin = {"command": [sys.executable, "-m", "tests.chaos.standin"]}
        images.write_text(json.dumps({} if real else {"marketplace/runtime-cpu": standin}))
        self._environment = os.environ | {
            "MARKETPLACE_HOME": str(home),
            "LOCAL_CLUSTER_IMAGES": str(images),
            "PYTHONPATH": str(CHECKOUT),
            # Containers that compute nothing may be many.
            "LOCAL_CLUSTER_CPU": cpu,
            "LOCAL_CLUSTER_MEMORY": "256Gi",
        }
        self._http = httpx.Client(timeout=10)
        self._key = ""

    # --- The manager ---------------------------------------------------------------------------------------

    def up(self) -> None:
        self._manage("up", "--detach", "--ports", "auto")
        self._key = json.loads((self.home.root / "credentials.json").read_text())["api_key"]

    def down(self) -> None:
        self._manage("down")

    def kill_manager(self) -> None:
        """`kill -9` of the manager, then `up` again, as an operator would."""
        holder = find_holder(self.home.root)
        assert holder, "the manager does not run"
        os.kill(holder, signal.SIGKILL)
        self.up()

    def _manage(self, *arguments: str) -> None:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=CHECKOUT, env=self._environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(
                f"manage.py {arguments[0]} ended with {done.returncode}: {done.stderr[-3000:]}"
            )

    # --- Components ----------------------------------------------------------------------------------------

    @property
    def state(self) -> ManagerState:
        state = read_state(self.home.root)
        assert state is not None, "the manager does not run"
        return state

    def kill(self, name: str) -> bool:
        """`kill -9` of a component; False when it is down at this moment."""
        pid = self.state.components[name].pid
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def down_components(self) -> list[str]:
        return [
            name
            for name, component in self.state.components.items()
            if component.pid is None or not psutil.pid_exists(component.pid)
        ]

    # --- REST ----------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Repeats the same request until it is answered, as a client with an idempotency key may.

        Raises Refused for an answer in the 400s.
        """
        headers = {"Authorization": f"Bearer {self._key}"}
        if method == "POST":
            headers["Idempotency-Key"] = uuid.uuid4().hex
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            problem = "no answer"
            with suppress(httpx.TransportError):
                url = f"{self.state.web_url}/api/v1/{path}"
                response = self._http.request(method, url, json=body, headers=headers)
                if response.status_code < 400:
                    return response.json() if response.content else None
                if response.status_code < 500:
                    raise Refused(response)
                problem = f"{response.status_code} {response.text[:200]}"
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path}: {problem} for {PATIENCE_SECONDS:.0f} s")
            time.sleep(0.1)

    # --- Pods ----------------------------------------------------------------------------------------------

    def containers(self) -> dict[int, dict[str, str]]:
        """Environment of the main process of every container of this home that lives, by pid."""
        found: dict[int, dict[str, str]] = {}
        for process in psutil.process_iter():
            # A process may end while it is looked at.
            with suppress(psutil.Error, ProcessLookupError):
                environment = process.environ()
                mine = str(self.home.cluster) in process.cwd() or any(
                    str(self.home.cluster) in value for value in environment.values()
                )
                leads = os.getsid(process.pid) == process.pid
                if MARKER in environment and mine and leads and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = environment
        return found
