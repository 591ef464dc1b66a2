"""Real serving processes for the tests."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

from runtimes.contract import ServingEnvironment
from tests.processes import wait_until

ROOT = Path(__file__).parents[2]

ENDLESS: dict[str, Any] = {
    "model": "chat-demo",
    "messages": [{"role": "user", "content": "Write a very long story about the sea."}],
    "temperature": 0,
    "max_tokens": 400,
    "frequency_penalty": 0.5,
}
"""Takes long enough for everything that a test does meanwhile."""


@dataclass
class RunningServer:
    """A process of `python -m runtimes.server`."""

    environment: ServingEnvironment
    process: subprocess.Popen[bytes]
    log_file: Path
    clients: ExitStack
    """Closes what `http` and `openai` have handed out. A client that is only dropped is closed by the garbage
    collector, which may come to its socket first and warn of it in the middle of another test.
    """

    @property
    def url(self) -> str:
        return f"http://{self.environment.host}:{self.environment.port}"

    @property
    def http(self) -> httpx.Client:
        """A client of its own for each use, so that a test can hang up without touching another."""
        return self.clients.enter_context(closing(httpx.Client(base_url=self.url, timeout=60)))

    @property
    def openai(self) -> OpenAI:
        client = OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=60)
        return self.clients.enter_context(closing(client))

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def status_of(self, path: str) -> int:
        """The status of a GET; 0 while nothing listens."""
        try:
            return httpx.get(f"{self.url}{path}", timeout=10).status_code
        except httpx.TransportError:
            return 0

    def meter(self, name: str) -> float:
        """The value of a meter without labels in /metrics."""
        for line in httpx.get(f"{self.url}/metrics", timeout=10).text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"/metrics has no {name}")

    def wait_ready(self) -> None:
        def ready_or_dead() -> bool:
            assert self.process.poll() is None, self.log
            return self.status_of("/ready") == 200

        wait_until(ready_or_dead, seconds=100, what="readiness")

    def exit_code(self, *, seconds: float = 60) -> int:
        return self.process.wait(timeout=seconds)


@contextmanager
def start_server(environment: ServingEnvironment) -> Iterator[RunningServer]:
    """The server on a free port of this machine; killed at the end."""
    with socket.create_server((environment.host, 0)) as probe:
        environment = replace(environment, port=probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        log_file = Path(folder) / "log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "runtimes.server"],
                cwd=ROOT,
                env=os.environ | environment.to_environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            with ExitStack() as clients:
                yield RunningServer(
                    environment=environment, process=process, log_file=log_file, clients=clients
                )
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


@contextmanager
def open_request(server: RunningServer, body: dict[str, Any]) -> Iterator[http.client.HTTPConnection]:
    """A request on a socket of its own that nobody reads yet; closing it is hanging up."""
    connection = http.client.HTTPConnection(server.environment.host, server.environment.port, timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    try:
        yield connection
    finally:
        connection.close()


def is_idle(server: RunningServer) -> bool:
    return server.meter("runtime_running") == server.meter("runtime_queue_length") == 0
