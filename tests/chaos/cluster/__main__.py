"""Runs rounds of chaos against the reconciler on a stand-in control plane: `make chaos-cluster`.

    python -m tests.chaos.cluster [--rounds N] [--seed S] [--only NUMBER] [--verbose]

Prints the seed, a line per fifty rounds, every round that ends wrong with its story, and `N rounds, N wrong`.
Exits 1 when any was wrong. The seed and the number of a round decide its wishes, faults and moments; `--only`
plays one of them alone.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from marketplace.embedded.paths import Home
from marketplace.embedded.services import running_services

REPORT_EVERY = 50


def main() -> int:
    parser = argparse.ArgumentParser(description="Random schedules of faults; checks that all comes right.")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None, help="repeat the choices of an earlier run")
    parser.add_argument("--only", type=int, default=None, help="play this round alone")
    parser.add_argument("--verbose", action="store_true", help="print the story of every round")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    numbers = [options.only] if options.only else list(range(1, options.rounds + 1))
    print(f"seed {seed}", flush=True)
    with ExitStack() as stack:
        home = Home(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marketplace-chaos-"))))
        for name in ("DATABASE_URL", "BROKER_URL", "CACHE_URL"):
            os.environ.pop(name, None)
        os.environ |= {
            "MARKETPLACE_HOME": str(home.root),
            "DJANGO_SETTINGS_MODULE": "marketplace.config.settings",
            "SECRET_KEY": secrets.token_urlsafe(),
        }
        stack.enter_context(running_services(home, durable=False))
        from tests.chaos.cluster import run  # models are imported once there is a database

        run.migrate()
        return run.play(home.root, seed=seed, numbers=numbers, verbose=options.verbose or options.only)


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s in all", flush=True)
    sys.exit(code)
