"""`manage.py down`: stops what `manage.py up` runs in this home, and waits until it has stopped."""

from __future__ import annotations

import os
import signal
import time
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

import psutil
from django.conf import settings
from django.core.management import BaseCommand, CommandError

from marketplace.embedded.lock import find_holder


class Command(BaseCommand):
    help = "Stops the product that runs in this home. Fine when it does not run."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--timeout", type=float, default=120.0, help="seconds to wait (120)")

    def handle(self, **options: Any) -> None:
        root = settings.MARKETPLACE_HOME.root
        deadline = time.monotonic() + options["timeout"]
        asked: set[int] = set()
        while (holder := find_holder(root)) is not None or any(map(is_alive, asked)):
            if holder and holder not in asked:
                with suppress(ProcessLookupError):
                    os.kill(holder, signal.SIGTERM)
                asked.add(holder)
            if time.monotonic() > deadline:
                raise CommandError(f"process {holder} still runs in {root} after {options['timeout']:.0f} s")
            time.sleep(0.05)
        self.stdout.write("stopped" if asked else f"nothing runs in {root}")


def is_alive(pid: int) -> bool:
    """Whether the process runs: a manager lets go of its lock a moment before its end."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
