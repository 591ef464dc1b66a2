"""Gives the tests a PostgreSQL and a Valkey: those of DATABASE_URL and BROKER_URL, else embedded ones in a
temporary home that lives as long as the test session.

Settings read the environment, so this module sets the environment first and then names the settings; that is
why pyproject.toml does not name them. All of it happens on import, because the conftest of a folder that is
given on the command line is imported before pytest calls any hook of this one, and imports models.
"""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from xdist.scheduler import LoadScopeScheduling

from marketplace.embedded.paths import Home
from marketplace.embedded.services import running_services

if "MARKETPLACE_HOME" not in os.environ:  # workers of xdist inherit their controller's
    _folder = tempfile.TemporaryDirectory(prefix="marketplace-tests-")
    os.environ["MARKETPLACE_HOME"] = _folder.name
    atexit.register(_folder.cleanup)
_home = Home(Path(os.environ["MARKETPLACE_HOME"]).resolve())
os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe())  # the web process refuses to start without
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
django.setup()
# A thread of the web process keeps its connection, and the database of the tests could not be removed.
settings.DATABASES["default"]["CONN_MAX_AGE"] = 0
if "PYTEST_XDIST_WORKER" in os.environ and "CACHE_URL" not in os.environ:
    # Workers share the Valkey but not its databases: a test that clears its cache clears no other's. Set here
    # and not in the environment, because a worker has read the settings before it comes here.
    _database = 2 + int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    settings.CACHES["default"]["LOCATION"] = f"unix://{_home.valkey_socket}?db={_database}"
TOGETHER = ("tests/runtimes/", "tests/marketplace/embedded/")
pytest_plugins = ["tests.people", "tests.market"]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers of xdist use what their controller has started
        _start_services(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return TogetherScheduling(config, log)


class TogetherScheduling(LoadScopeScheduling):
    """Whatever shares something slow to start runs in one worker; any other test runs in either.

    xdist's own `loadgroup` marks tests through a private attribute that pytest 9.2 no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid)


def _start_services(config: pytest.Config) -> None:
    # A terminated session tears down like an interrupted one: fixtures may have started whole products.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stack = ExitStack()
    config.add_cleanup(stack.close)
    services = running_services(
        _home,
        database="DATABASE_URL" not in os.environ,
        broker="BROKER_URL" not in os.environ,
        durable=False,
    )
    stack.enter_context(services)
