"""What the REST API takes: `make bench-api`.

One web process, started as `manage.py up` starts it, over a real database with 1,000 deployments and 60
flavors. Beside the times that a caller sees, the CPU time of the web process itself is told for each request,
which other load on the machine changes little.

The peer is dstack's server, measured on the same kind of machine: an empty list in 6.3 ms at 145 requests a
second, and a plan without offers in 20 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from marketplace.embedded.components import product_programs
from marketplace.embedded.paths import Home
from marketplace.embedded.programs import Program, start, wait_until_ready
from marketplace.embedded.services import running_services
from tests.bench.report import bench_line, print_machine

ROOT = Path(__file__).parents[2]
WARM_UP = 50
PEER = "dstack"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked, and what the peer takes for its like."""

    name: str
    method: str
    path: str
    body: bytes = b""
    peer_ms: float
    peer_rate: float | None = None

    def to_bytes(self, secret: str) -> bytes:
        return (
            f"{self.method} {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {secret}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(self.body)}\r\n\r\n"
        ).encode() + self.body


PAGE = Request(
    name="page of 50 deployments",
    method="GET",
    path="/api/v1/deployments/?page_size=50",
    peer_ms=6.3,
    peer_rate=145,
)
PLAN = Request(
    name="plan with ranked offers",
    method="POST",
    path="/api/v1/plans/",
    body=json.dumps({"model": "tests/chatter"}).encode(),
    peer_ms=20,
)


class Caller:
    """One keep-alive connection that writes and reads bytes: it is not what is measured."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, request: bytes) -> tuple[float, bytes]:
        """Seconds to the last byte of the answer, and its body."""
        began = time.perf_counter()
        self._socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._received()
        head, _, body = answer.partition(b"\r\n\r\n")
        headers = head.lower().split(b"\r\n")
        length = next(int(line.partition(b":")[2]) for line in headers if line.startswith(b"content-length:"))
        while len(body) < length:
            body += self._received()
        took = time.perf_counter() - began
        if not headers[0].startswith(b"http/1.1 20"):
            raise SystemExit(f"not answered: {body[:500]!r}")
        return took, body

    def _received(self) -> bytes:
        data = self._socket.recv(262_144)
        if not data:
            raise SystemExit("the web process closed the connection")
        return data

    def close(self) -> None:
        self._socket.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    arguments.add_argument("--calls", type=int, default=400, help="of each kind")
    arguments.add_argument("--callers", type=int, default=4, help="at once, where throughput is measured")
    arguments.add_argument("--deployments", type=int, default=1000)
    arguments.add_argument("--flavors", type=int, default=60)
    arguments.add_argument("--profile", metavar="FILE", help="write a py-spy profile of the web process")
    options = arguments.parse_args()
    print_machine("django", "djangorestframework", "uvicorn")
    with ExitStack() as stack:
        home = Home(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marketplace-bench-"))))
        for name in ("DATABASE_URL", "BROKER_URL", "CACHE_URL"):
            os.environ.pop(name, None)
        os.environ |= {
            "MARKETPLACE_HOME": str(home.root),
            "DJANGO_SETTINGS_MODULE": "marketplace.config.settings",
            "LOG_LEVEL": "WARNING",
            "SECRET_KEY": "only-for-this-benchmark",
        }
        stack.enter_context(running_services(home, durable=True))
        from tests.bench import api_customer  # models are imported once there is a database

        secret = api_customer.prepare(deployments=options.deployments, flavors=options.flavors)
        port, process = stack.enter_context(web_process(home))
        again = threading.Thread(target=keep_nodes_known, args=(api_customer.say_nodes,), daemon=True)
        again.start()
        print(
            f"sizes     {options.calls} calls of each kind, {options.deployments} deployments, "
            f"{options.flavors} flavors, throughput with {options.callers} callers"
        )
        if options.profile:
            stack.enter_context(profiled(process, Path(options.profile)))
        figures = [
            line
            for request in (PAGE, PLAN)
            for line in measure(
                request, port, process, secret=secret, calls=options.calls, callers=options.callers
            )
        ]
    print(*figures, sep="\n")


def measure(
    request: Request, port: int, process: psutil.Process, *, secret: str, calls: int, callers: int
) -> Iterator[str]:
    """Lines for one kind of request: as one caller sees it, its CPU time, and the rate of several callers."""
    message = request.to_bytes(secret)
    caller = Caller(port)
    for _ in range(WARM_UP):
        caller.call(message)
    before = cpu_seconds(process)
    times = [caller.call(message)[0] * 1000 for _ in range(calls)]
    cpu = (cpu_seconds(process) - before) * 1000 / calls
    _, body = caller.call(message)
    caller.close()
    rate = calls_per_second(lambda: Caller(port), message, calls=calls, callers=callers)
    p50, p95 = (statistics.quantiles(times, n=100, method="inclusive")[share - 1] for share in (50, 95))
    print(
        f"{request.name}: {len(body):,} bytes, p50 {p50:.2f} ms, p95 {p95:.2f} ms, "
        f"fastest {min(times):.2f} ms, {cpu:.2f} ms of CPU a request, {rate:.0f} requests/s"
    )
    slug = request.name.replace(" ", "_")
    yield bench_line(name=f"api_{slug}_p50", value=p50, unit="ms", peer=PEER, peer_value=request.peer_ms)
    yield bench_line(name=f"api_{slug}_cpu", value=cpu, unit="ms", peer=PEER, peer_value=request.peer_ms)
    if request.peer_rate:
        yield bench_line(
            name=f"api_{slug}_rate", value=rate, unit="requests/s", peer=PEER, peer_value=request.peer_rate
        )


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def calls_per_second(connect: Callable[[], Caller], message: bytes, *, calls: int, callers: int) -> float:
    everyone = [connect() for _ in range(callers)]

    def run(caller: Caller) -> None:
        for _ in range(calls // callers):
            caller.call(message)

    threads = [threading.Thread(target=run, args=(caller,)) for caller in everyone]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for caller in everyone:
        caller.close()
    return (calls // callers) * callers / seconds


@contextmanager
def web_process(home: Home) -> Iterator[tuple[int, psutil.Process]]:
    """The product's web process on a free port: its command is the one of `manage.py up`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    stages = product_programs(home, base=ROOT, web_url=url, gateway_url="http://127.0.0.1:1")
    program: Program = next(item for stage in stages for item in stage if item.name == "web")
    log = home.root / "web.log"
    process = start(program, log=log)
    try:
        wait_until_ready(program, process, log=log)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def keep_nodes_known(say: Callable[[], None], *, every: float = 20.0) -> None:
    """Says again what the sweep would say of the clusters, which is forgotten after a minute."""
    while True:
        time.sleep(every)
        say()


@contextmanager
def profiled(process: psutil.Process, file: Path) -> Iterator[None]:
    """Samples the web process with py-spy, which has to be installed."""
    sampler = subprocess.Popen(
        [sys.executable, "-m", "py_spy", "record", "--format", "raw", "-r", "500", "-p", str(process.pid)]
        + ["-o", str(file)]
    )
    try:
        yield
    finally:
        sampler.send_signal(2)
        sampler.wait(30)


if __name__ == "__main__":
    main()
