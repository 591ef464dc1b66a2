"""What looking after thousands of deployments costs: `make bench-reconcile`.

On the stand-in control plane, over HTTP, with PostgreSQL: deployments are made, come up and are settled. Then
whole sweeps are timed, and what they read and write is counted: API calls, queries, and row versions of every
table that the reconciler writes. At last one of the customers makes 200 deployments at once, and threads
answer their bells with `reconcile`, as a worker does, until all are applied.

The stand-in answers from another process, as a real API server would.
"""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
from contextlib import ExitStack
from pathlib import Path

from marketplace.embedded.paths import Home
from marketplace.embedded.services import running_services
from tests.bench.report import bench_line, print_machine

SIZES = (500, 5_000)
CUSTOMERS = 50
AT_ONCE = 200
MOST_SWEEP_SECONDS = 10.0
MOST_APPLY_SECONDS = 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Costs of sweeps and of many deployments at once.")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="settled deployments")
    parser.add_argument("--customers", type=int, default=CUSTOMERS, help="that share the settled ones")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="deployments made at once")
    parser.add_argument("--workers", type=int, default=2, help="threads that reconcile")
    options = parser.parse_args()
    print_machine("django", "kubernetes")
    with ExitStack() as stack:
        home = Home(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marketplace-bench-"))))
        for name in ("DATABASE_URL", "BROKER_URL", "CACHE_URL"):
            os.environ.pop(name, None)
        os.environ |= {
            "MARKETPLACE_HOME": str(home.root),
            "DJANGO_SETTINGS_MODULE": "marketplace.config.settings",
            "LOG_LEVEL": "ERROR",
            "SECRET_KEY": secrets.token_urlsafe(),
        }
        stack.enter_context(running_services(home, durable=True))
        from tests.bench import reconcile_load  # models are imported once there is a database

        reconcile_load.migrate()
        cluster = stack.enter_context(reconcile_load.api_server(home.root))
        load = reconcile_load.Load(home.root, cluster, customers=options.customers)
        sweeps = []
        for size in options.sizes:
            print(f"\n{size} deployments: {load.settle(size)}", flush=True)
            sweep = load.measure_sweep()
            sweeps.append(sweep)
            print(f"  {sweep}", flush=True)
        burst = load.measure_burst(options.at_once, workers=options.workers)
        print(f"\n{burst}", flush=True)
    wrong = []
    if len({sweep.calls for sweep in sweeps}) > 1:
        wrong.append("API calls of a sweep depend on the number of deployments")
    if any(sweep.writes or sweep.versions for sweep in sweeps):
        wrong.append("a sweep of a settled system writes")
    if sweeps[-1].seconds > MOST_SWEEP_SECONDS:
        wrong.append(f"a sweep takes more than {MOST_SWEEP_SECONDS:.0f} s")
    if burst.seconds > MOST_APPLY_SECONDS:
        wrong.append(f"applying takes more than {MOST_APPLY_SECONDS:.0f} s")
    print(
        bench_line(
            name=f"sweep_of_{options.sizes[-1]}",
            value=sweeps[-1].seconds,
            unit="s",
            peer="limit",
            peer_value=MOST_SWEEP_SECONDS,
        ),
        bench_line(
            name=f"apply_{options.at_once}_at_once",
            value=burst.seconds,
            unit="s",
            peer="limit",
            peer_value=MOST_APPLY_SECONDS,
        ),
        *(f"WRONG: {sentence}" for sentence in wrong),
        sep="\n",
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
