"""`manage.py up`: the whole product on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandError

from marketplace.embedded.addresses import AddressRefused
from marketplace.embedded.components import python_path
from marketplace.embedded.console import Console
from marketplace.embedded.credentials import read_credentials
from marketplace.embedded.lock import HomeIsInUse, find_holder
from marketplace.embedded.manager import Manager, Wishes, welcome
from marketplace.embedded.paths import Home
from marketplace.embedded.permissions import UnsafeFolder
from marketplace.embedded.programs import ProgramFailed
from marketplace.embedded.state import read_state


class Command(BaseCommand):
    help = "Starts everything the product needs on this machine and keeps it running until Ctrl-C."
    # It starts the database that some checks would ask for.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-seed", action="store_true", help="leave the catalog as it is")
        parser.add_argument(
            "--ports",
            choices=("configured", "auto"),
            default="configured",
            help="auto: take free ports and record them in state.json (default: of WEB_URL and GATEWAY_URL)",
        )
        parser.add_argument(
            "--detach", action="store_true", help="return when everything is ready; `down` stops it"
        )
        parser.add_argument(
            "--timeout", type=float, default=300.0, help="with --detach: seconds until ready (300)"
        )

    def handle(self, **options: Any) -> None:
        home: Home = settings.MARKETPLACE_HOME
        if options["detach"]:
            self._detach(home, options)
            return
        wishes = Wishes(seed=not options["no_seed"], automatic_ports=options["ports"] == "auto")
        try:
            Manager(home=home, wishes=wishes, console=Console()).run()
        except (AddressRefused, HomeIsInUse, ProgramFailed, UnsafeFolder) as error:
            raise CommandError(str(error)) from error

    def _detach(self, home: Home, options: dict[str, Any]) -> None:
        if (holder := find_holder(home.root)) is not None:
            raise CommandError(str(HomeIsInUse(holder, home.root)))
        home.logs.mkdir(parents=True, exist_ok=True)
        log = home.logs / "up.log"
        command = [sys.executable, "-m", "django", "up", "--ports", options["ports"]]
        if options["no_seed"]:
            command.append("--no-seed")
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": python_path(settings.BASE_DIR)},
                start_new_session=True,
            )
        deadline = time.monotonic() + options["timeout"]
        while True:
            state = read_state(home.root)
            if state is not None and state.manager == process.pid and state.ready:
                text = welcome(state, credentials=read_credentials(home.root), home=home)
                self.stdout.write(text.replace("Ctrl-C stops", "`manage.py down` stops"))
                return
            if process.poll() is not None:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise CommandError(f"it did not come up; the end of {log}:\n{tail}")
            if time.monotonic() > deadline:
                process.terminate()
                process.wait()
                raise CommandError(f"it was not ready after {options['timeout']:.0f} s; see {log}")
            time.sleep(0.1)
