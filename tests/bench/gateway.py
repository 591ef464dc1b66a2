"""What the gateway adds to a call: `make bench-gateway`.

A runtime that answers at once, so that nothing but the way is measured, is called directly and through a
gateway of its own process over a real database. Both ways take turns, so that other load on the machine
hits them alike. The caller writes bytes to a socket and reads bytes: it is not what is measured.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from marketplace.embedded.paths import Home
from marketplace.embedded.services import running_services
from tests.bench.instant_runtime import ANSWER, EVENT, TOKENS
from tests.bench.report import bench_line, print_machine

WARM_UP = 100
_CALL = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "Hello " * 50}]}).encode()
_STREAM = json.dumps({"model": "chat", "stream": True, "messages": []}).encode()


class Caller:
    """One keep-alive connection."""

    def __init__(self, port: int, secret: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._secret = secret

    def call(self, body: bytes) -> tuple[float, float]:
        """Seconds to the first byte of the answer, and to its last."""
        request = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self._secret}\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        began = time.perf_counter()
        self._socket.sendall(request)
        answer = self._socket.recv(65536)
        first = time.perf_counter() - began
        # Both ways answer in chunks; the last one is empty.
        while not answer.endswith(b"0\r\n\r\n"):
            answer += self._socket.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not answered: {answer[:500]!r}")
        return first, time.perf_counter() - began

    def close(self) -> None:
        self._socket.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    arguments.add_argument("--calls", type=int, default=1000, help="of each kind, each way")
    arguments.add_argument("--callers", type=int, default=16, help="at once, where throughput is measured")
    options = arguments.parse_args()
    print_machine("uvicorn", "starlette", "aiohttp", "django")
    print(
        f"sizes     {options.calls} calls each way, request {len(_CALL)} bytes, answer {len(ANSWER)} bytes, "
        f"stream {TOKENS} events of {len(EVENT)} bytes, throughput with {options.callers} callers"
    )
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marketplace-bench-")))
        os.environ["MARKETPLACE_HOME"] = str(home)
        os.environ["LOG_LEVEL"] = "WARNING"
        for name in ("DATABASE_URL", "BROKER_URL", "CACHE_URL"):
            os.environ.pop(name, None)
        stack.enter_context(running_services(Home(home), durable=False))
        runtime_port = stack.enter_context(server("tests.bench.instant_runtime:application"))
        secret = prepare(runtime_port)
        gateway_port = stack.enter_context(server("deployments.gateway.asgi:application"))
        direct, through = Caller(runtime_port, secret), Caller(gateway_port, secret)
        stack.callback(direct.close)
        stack.callback(through.close)
        figures = [
            *latencies(direct, through, calls=options.calls),
            throughput(runtime_port, gateway_port, secret, calls=options.calls, callers=options.callers),
        ]
    print(*figures, sep="\n")


def latencies(direct: Caller, through: Caller, *, calls: int) -> Iterator[str]:
    """Lines for whole calls, for first tokens, and for streams; taking turns, one call at a time."""
    for body, name in ((_CALL, "call"), (_STREAM, "stream")):
        for caller in (direct, through):
            for _ in range(WARM_UP):
                caller.call(body)
        pairs = [(direct.call(body), through.call(body)) for _ in range(calls)]
        for index, what in ((0, "first_byte"), (1, "whole")):
            if name == "call" and index == 0:
                continue  # an answer in one piece: its first byte is its last
            ours = [pair[1][index] * 1000 for pair in pairs]
            theirs = [pair[0][index] * 1000 for pair in pairs]
            for label, share in (("p50", 50), ("p99", 99)):
                yield bench_line(
                    name=f"gateway_{name}_{what}_{label}",
                    value=percentile(ours, share),
                    unit="ms",
                    peer="direct call",
                    peer_value=percentile(theirs, share),
                )
            added = statistics.median(a - b for a, b in zip(ours, theirs, strict=True))
            print(f"{name:9} {what}: the gateway adds {added:.2f} ms at the median")


def throughput(runtime_port: int, gateway_port: int, secret: str, *, calls: int, callers: int) -> str:
    """Calls per second of one gateway process."""
    rates = [
        calls_per_second(port, secret, calls=calls, callers=callers) for port in (gateway_port, runtime_port)
    ]
    return bench_line(
        name=f"gateway_calls_with_{callers}_callers",
        value=rates[0],
        unit="calls/s",
        peer="direct call",
        peer_value=rates[1],
    )


def calls_per_second(port: int, secret: str, *, calls: int, callers: int) -> float:
    everyone = [Caller(port, secret) for _ in range(callers)]

    def run(caller: Caller) -> None:
        for _ in range(calls // callers):
            caller.call(_CALL)

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


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


@contextmanager
def server(application: str) -> Iterator[int]:
    """Runs an ASGI application in a process; gives its port once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", application, "--port", str(port)]
        + ["--log-level", "warning", "--no-access-log"]
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{application} did not start") from None
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def prepare(runtime_port: int) -> str:
    """Makes a customer with a deployment whose one replica is the runtime; gives the customer's API key."""
    made = subprocess.run(
        [sys.executable, "-m", "tests.bench.gateway_customer", f"127.0.0.1:{runtime_port}"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return made.stdout.split()[-1]


if __name__ == "__main__":
    main()
