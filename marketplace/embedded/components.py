"""The programs that make up the product on one machine, in the order in which they start.

Parts of `deployments` are named, not imported: they are separate processes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from marketplace.embedded.addresses import accepts_connections, host_and_port
from marketplace.embedded.outside import is_outside
from marketplace.embedded.paths import Home
from marketplace.embedded.postgres import postgres_program
from marketplace.embedded.programs import Program
from marketplace.embedded.valkey import valkey_program

WORKER_PROCESSES = 4
"""Reconciling waits for clusters far more than it computes, so this may exceed the cores."""


def python_path(base: Path) -> str:
    """PYTHONPATH for our processes: they start from any folder, and the checkout need not be installed."""
    return os.pathsep.join(filter(None, (str(base), os.environ.get("PYTHONPATH"))))


def service_programs(home: Home, *, environment: Mapping[str, str]) -> list[Program]:
    """The embedded services that nothing outside takes the place of."""
    programs = []
    if not is_outside("DATABASE_URL", environment):
        programs.append(postgres_program(home))
    if not is_outside("BROKER_URL", environment):
        programs.append(valkey_program(home))
    return programs


def product_programs(home: Home, *, base: Path, web_url: str, gateway_url: str) -> list[list[Program]]:
    """The product's own processes as stages. The last stage starts last and stops first."""
    environment = {
        "MARKETPLACE_HOME": str(home.root),
        "WEB_URL": web_url,
        "GATEWAY_URL": gateway_url,
        # Nobody spreads calls over several gateways here, so none has to notice that it stops.
        "GATEWAY_STOP_DELAY_SECONDS": os.environ.get("GATEWAY_STOP_DELAY_SECONDS", "0"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": python_path(base),
    }

    def python(name: str, *arguments: str, **options: object) -> Program:
        command = (sys.executable, *arguments)
        return Program(name=name, command=command, environment=environment, **options)  # type: ignore[arg-type]

    def django(name: str, command: str, **options: object) -> Program:
        return python(name, "-m", "django", command, "--settings", "marketplace.config.settings", **options)

    def celery(name: str, *arguments: str) -> Program:
        return python(name, "-m", "celery", "--quiet", "--app", "marketplace.config.celery", *arguments)

    def asgi(name: str, application: str, url: str, *, lifespan: str) -> Program:
        host, port = host_and_port(url)
        return python(
            name,
            *("-m", "uvicorn", application, "--host", host, "--port", str(port)),
            # An open stream may not hold up the end for longer than this.
            *("--timeout-graceful-shutdown", "5", "--lifespan", lifespan, "--no-access-log"),
            is_ready=lambda: accepts_connections(url),
        )

    return [
        # Its pods stop with it, which SIGTERM asks for; SIGKILL would leave them running.
        [django("cluster", "localcluster", death_signal=signal.SIGTERM, stop_seconds=45)],
        [
            celery(
                "worker",
                *("worker", "--loglevel", "INFO", "--concurrency", str(WORKER_PROCESSES)),
                # One worker needs no news of others.
                *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            ),
            celery(
                "beat",
                *("beat", "--loglevel", "INFO", "--pidfile", ""),
                *("--schedule", str(home.beat / "schedule")),
            ),
            django("watch", "watch"),
            asgi("web", "marketplace.config.asgi:application", web_url, lifespan="off"),
            asgi("gateway", "deployments.gateway.asgi:application", gateway_url, lifespan="auto"),
        ],
    ]
