"""Runs a local node as `manage.py localcluster` does, without the second that Django takes to start.

Usage: python -m tests.deployments.clusters.run_node HOME CPU MEMORY
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from deployments.clusters.local.containers import Places
from deployments.clusters.local.daemon import Daemon
from deployments.clusters.local.machine import describe_machine
from deployments.clusters.local.store import Store

if __name__ == "__main__":
    home = Path(sys.argv[1])
    logging.basicConfig(level=logging.INFO)
    daemon = Daemon(
        store=Store(home / "cluster"),
        places=Places(
            storage=home / "storage", checkout=Path(__file__).parents[3], images=home / "images.json"
        ),
        shutdown_seconds=2.0,
        node=describe_machine(cpu=sys.argv[2], memory=sys.argv[3]),
    )
    asyncio.run(daemon.run())
