"""Brings the whole product of one home up, keeps it up, and takes it down: what `manage.py up` runs.

1. Lock the home, check the ports, make the folders and the secret key.
2. Start PostgreSQL and Valkey, unless DATABASE_URL and BROKER_URL name others.
3. Migrate, make the first users, seed the catalog.
4. Start the product's processes and print where everything is.
5. Start again what dies, until SIGINT or SIGTERM; then stop all in reverse.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from django.conf import settings
from django.core.management import call_command, get_commands
from django.db import connections

from marketplace.accounts.bootstrap import Credentials
from marketplace.config.signals import set_on
from marketplace.embedded.addresses import check_free, host_and_port, with_free_port
from marketplace.embedded.components import product_programs, service_programs
from marketplace.embedded.console import Console, NamedStream
from marketplace.embedded.credentials import credentials_file, ensure_credentials
from marketplace.embedded.lock import HomeLock
from marketplace.embedded.outside import is_outside
from marketplace.embedded.paths import Home
from marketplace.embedded.permissions import make_private_folder
from marketplace.embedded.state import ManagerState, state_file, write_state
from marketplace.embedded.supervisor import Interrupted, Supervisor


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How to bring the product up."""

    seed: bool = True
    """Fill the catalog, hardware and prices with the seed data."""
    automatic_ports: bool = False
    """Take free ports instead of those of WEB_URL and GATEWAY_URL."""


class Manager:
    """The manager of one home. `run` returns after everything has stopped."""

    def __init__(self, *, home: Home, wishes: Wishes, console: Console) -> None:
        self.home = home
        self.wishes = wishes
        self.console = console
        self.stop = threading.Event()
        self.state = ManagerState(
            manager=os.getpid(), web_url=settings.WEB_URL, gateway_url=settings.GATEWAY_URL
        )
        self.supervisor = Supervisor(
            logs=home.logs, console=console, stop=self.stop, changed=self._publish_components
        )

    def run(self) -> None:
        """Raises HomeIsInUse, AddressRefused or ProgramFailed, with everything stopped, when it cannot."""
        with HomeLock(self.home.root), _signals_set(self.stop):
            try:
                self._bring_up()
                self.supervisor.run()
            except Interrupted:
                pass
            finally:
                self._take_down()

    def _bring_up(self) -> None:
        self._choose_addresses()
        prepare_home(self.home)
        self._publish()
        services = service_programs(self.home, environment=os.environ)
        if services:
            self.console.say(f"starting {' and '.join(program.name for program in services)}")
            self.supervisor.start_stage(services)
        credentials = self._prepare_database()
        for stage in product_programs(
            self.home,
            base=settings.BASE_DIR,
            web_url=self.state.web_url,
            gateway_url=self.state.gateway_url,
        ):
            self.console.say(f"starting {', '.join(program.name for program in stage)}")
            self.supervisor.start_stage(stage)
        self.state = replace(self.state, ready=True)
        self._publish()
        self.console.say(welcome(self.state, credentials=credentials, home=self.home))

    def _choose_addresses(self) -> None:
        web_url, gateway_url = self.state.web_url, self.state.gateway_url
        if self.wishes.automatic_ports:
            web_url = with_free_port(web_url)
            gateway_url = with_free_port(gateway_url, avoid=frozenset({host_and_port(web_url)[1]}))
            self.state = replace(self.state, web_url=web_url, gateway_url=gateway_url)
        else:
            check_free("WEB_URL", web_url)
            check_free("GATEWAY_URL", gateway_url)

    def _prepare_database(self) -> Credentials:
        steps: list[tuple[str, Callable[[], object]]] = [
            ("bringing the database up to date", lambda: self._command("migrate", verbosity=0)),
        ]
        if self.wishes.seed and "seed" in get_commands():
            steps.append(("filling the catalog", lambda: self._command("seed")))
        try:
            for message, step in steps:
                self.console.say(message)
                step()
                if self.stop.is_set():
                    raise Interrupted
            ours = not is_outside("DATABASE_URL", os.environ)
            return ensure_credentials(self.home.root, database_is_ours=ours)
        finally:
            connections.close_all()  # the manager needs the database no more, and must not hold up its end

    def _command(self, name: str, **options: object) -> None:
        call_command(name, stdout=NamedStream(self.console, name=name), **options)

    def _take_down(self) -> None:
        if self.supervisor.components:
            self.console.say("stopping")
        self.supervisor.stop_all()
        state_file(self.home.root).unlink(missing_ok=True)
        self.console.say("stopped")

    def _publish_components(self) -> None:
        components = {item.program.name: item.state for item in self.supervisor.components}
        self.state = replace(self.state, components=components)
        self._publish()

    def _publish(self) -> None:
        write_state(self.home.root, self.state)


def prepare_home(home: Home) -> None:
    """Makes the folders and the secret key of a home; repeating it changes nothing."""
    home.root.mkdir(parents=True, exist_ok=True)
    for folder in (home.logs, home.storage, home.cluster, home.beat):
        make_private_folder(folder)
    Path(settings.STORAGE_ROOT).mkdir(parents=True, exist_ok=True)
    if not home.secret_key.exists():
        fresh = home.secret_key.with_name("secret-key.new")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(50) + "\n")
        os.replace(fresh, home.secret_key)


def welcome(state: ManagerState, *, credentials: Credentials | None, home: Home) -> str:
    """What a person reads when everything is up."""
    lines = [
        "",
        f"Portal      {state.web_url}/",
        f"Admin       {state.web_url}/admin/",
        f"REST        {state.web_url}/api/v1/   documented at {state.web_url}/api/docs/",
        f"Models      {state.gateway_url}/v1   (base URL for the OpenAI SDK)",
        f"Logs        {home.logs}",
    ]
    kept = "(as it was: we cannot read it)"
    if credentials is not None:
        lines += [
            "",
            f"Staff       {credentials.admin_email}   password {credentials.admin_password or kept}",
            f"Customer    {credentials.user_email}   password {credentials.user_password or kept}",
            f"API key     {credentials.api_key or kept}",
            f"            (kept in {credentials_file(home.root)})",
        ]
    return "\n".join([*lines, "", "ready; Ctrl-C stops everything", ""])


@contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`; a hang-up of the terminal too, since nobody reads on."""
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in wanted}
    set_on(stop, *wanted)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
