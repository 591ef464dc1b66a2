"""`manage.py status`: what runs in this home.

The exit code is 0 when everything does and 3 otherwise, as init scripts have it.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

import psutil
from django.conf import settings
from django.core.management import BaseCommand

from marketplace.embedded.lock import find_holder
from marketplace.embedded.state import read_state

NOT_RUNNING = 3


class Command(BaseCommand):
    help = "Shows what runs in this home. Exit code 0: everything is up; 3: it is not."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the state as JSON")

    def handle(self, **options: Any) -> None:
        root = settings.MARKETPLACE_HOME.root
        state = read_state(root) if find_holder(root) is not None else None
        if state is None:
            self.stdout.write("null" if options["json"] else f"nothing runs in {root}")
            sys.exit(NOT_RUNNING)
        if options["json"]:
            self.stdout.write(json.dumps(asdict(state), indent=1))
        else:
            self.stdout.write(f"web      {state.web_url}\ngateway  {state.gateway_url}\n")
            for name, component in state.components.items():
                shown = f"pid {component.pid}" if component.pid else "down"
                self.stdout.write(f"{name:<10} {shown:<12} restarts {component.restarts:<4} {component.log}")
        pids = [component.pid for component in state.components.values()]
        if not (state.ready and all(pid and psutil.pid_exists(pid) for pid in pids)):
            sys.exit(NOT_RUNNING)
