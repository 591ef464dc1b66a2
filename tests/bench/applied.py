"""How long it takes from `POST /deployments` until all objects are applied: `make bench-applied`.

Through the product's own processes on an idle system: a web process and a worker as `manage.py up` starts
them, PostgreSQL, Valkey, and a real API server, which is started where `KUBEBUILDER_ASSETS` has its programs
or named by `MARKETPLACE_TEST_KUBECONFIG`. Without one it says so and measures the stand-in.

Deployments are posted one after another. Neither beat nor watch runs, so only the doorbell of the request can
bring objects about. Timed is from the beginning of the request until the API server shows the last of them.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from marketplace.embedded.components import product_programs
from marketplace.embedded.paths import Home
from marketplace.embedded.programs import start, wait_until_ready
from marketplace.embedded.services import running_services
from tests.bench.report import bench_line, print_machine
from tests.kubernetes.controlplane import missing, real_kubeconfig
from tests.kubernetes.standin import StandIn

ROOT = Path(__file__).parents[2]
POSTS = 50
WARM_UP = 10
"""More than a worker has processes, each of which connects to the database and the cluster at first."""
LIMIT_MS = 300.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Time from POST /deployments to applied objects.")
    parser.add_argument("--posts", type=int, default=POSTS, help="one after another")
    options = parser.parse_args()
    print_machine("django", "celery", "kubernetes")
    with ExitStack() as stack:
        home = Home(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marketplace-bench-"))))
        kubeconfig = stack.enter_context(_api_server(home.root))
        for name in ("DATABASE_URL", "BROKER_URL", "CACHE_URL"):
            os.environ.pop(name, None)
        os.environ |= {
            "MARKETPLACE_HOME": str(home.root),
            "DJANGO_SETTINGS_MODULE": "marketplace.config.settings",
            "LOG_LEVEL": "WARNING",
            "SECRET_KEY": "only-for-this-benchmark",
        }
        stack.enter_context(running_services(home, durable=True))
        from tests.bench.applied_customer import Customer  # models are imported once there is a database

        customer = Customer(kubeconfig)
        url = stack.enter_context(_product(home))
        posting = [customer.post(url) for _ in range(WARM_UP + options.posts)]
    first, measured = posting[0], posting[WARM_UP:]
    applied = [it.applied_ms for it in measured]
    p50, p95 = _shares(applied)
    answered = _shares([it.answered_ms for it in measured])
    print(
        f"{len(measured)} deployments, one after another\n"
        f"  answered after p50 {answered[0]:.0f} ms, p95 {answered[1]:.0f} ms\n"
        f"  applied after p50 {p50:.0f} ms, p95 {p95:.0f} ms, fastest {min(applied):.0f} ms\n"
        f"  the first, with its namespace and on processes that have just begun: {first.applied_ms:.0f} ms"
    )
    for name, value in (("p50", p50), ("p95", p95)):
        print(bench_line(name=f"applied_{name}", value=value, unit="ms", peer="limit", peer_value=LIMIT_MS))
    if p95 <= LIMIT_MS:
        return 0
    print(f"WRONG: until objects are applied takes more than {LIMIT_MS:.0f} ms")
    return 1


def _shares(values: list[float]) -> tuple[float, float]:
    """p50 and p95."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94]


@contextmanager
def _api_server(folder: Path) -> Iterator[Path]:
    """The kubeconfig of a real API server, else of the stand-in."""
    if why := missing():
        print(f"server    the stand-in, because there is {why}")
        with StandIn() as standin:
            yield standin.kubeconfig(folder / "kubeconfig")
        return
    print("server    a real kube-apiserver with its controllers")
    with real_kubeconfig(folder) as kubeconfig:
        yield kubeconfig


@contextmanager
def _product(home: Home) -> Iterator[str]:
    """Web and worker, as `manage.py up` starts them; the address of web."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stages = product_programs(home, base=ROOT, web_url=url, gateway_url="http://127.0.0.1:1")
    programs = [item for stage in stages for item in stage if item.name in ("web", "worker")]
    running = []
    try:
        for program in programs:
            log = home.root / f"{program.name}.log"
            running.append(process := start(program, log=log))
            wait_until_ready(program, process, log=log)
        yield url
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(60)


if __name__ == "__main__":
    sys.exit(main())
