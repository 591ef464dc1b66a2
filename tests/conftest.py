"""Gives the tests a PostgreSQL and a Valkey: those of DATABASE_URL and BROKER_URL, else embedded ones in a
temporary home that lives as long as the test session.

Settings read the environment, so this module names the settings only after it has set the environment; that
is why pyproject.toml does not name them.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import ExitStack
from pathlib import Path

import django
import pytest

from marketplace.embedded.paths import Home
from marketplace.embedded.services import running_services


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers of xdist inherit what their controller has started
        _start_services(config)
    os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe())  # the web process refuses to start without
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
    django.setup()
    config.pluginmanager.import_plugin("tests.people")  # its fixtures; imports models, hence after setup
    config.pluginmanager.import_plugin("tests.market")


def _start_services(config: pytest.Config) -> None:
    stack = ExitStack()
    config.add_cleanup(stack.close)
    if "MARKETPLACE_HOME" not in os.environ:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="marketplace-tests-"))
        os.environ["MARKETPLACE_HOME"] = folder
    services = running_services(
        Home(Path(os.environ["MARKETPLACE_HOME"]).resolve()),
        database="DATABASE_URL" not in os.environ,
        broker="BROKER_URL" not in os.environ,
        durable=False,
    )
    stack.enter_context(services)
