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

import django
import pytest

from marketplace.embedded.paths import Home
from marketplace.embedded.services import running_services

if "MARKETPLACE_HOME" not in os.environ:  # workers of xdist inherit their controller's
    _folder = tempfile.TemporaryDirectory(prefix="marketplace-tests-")
    os.environ["MARKETPLACE_HOME"] = _folder.name
    atexit.register(_folder.cleanup)
os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe())  # the web process refuses to start without
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
django.setup()
pytest_plugins = ["tests.people", "tests.market"]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers of xdist use what their controller has started
        _start_services(config)


def _start_services(config: pytest.Config) -> None:
    # A terminated session tears down like an interrupted one: fixtures may have started whole products.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stack = ExitStack()
    config.add_cleanup(stack.close)
    services = running_services(
        Home(Path(os.environ["MARKETPLACE_HOME"]).resolve()),
        database="DATABASE_URL" not in os.environ,
        broker="BROKER_URL" not in os.environ,
        durable=False,
    )
    stack.enter_context(services)
