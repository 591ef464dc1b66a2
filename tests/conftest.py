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
_home = Home(Path(os.environ["MARKETPLACE_HOME"]).resolve())
_worker = os.environ.get("PYTEST_XDIST_WORKER")
if _worker is not None:
    # Workers share the Valkey and not its databases: a test that clears its cache clears no other's.
    _number = 2 * int(_worker.removeprefix("gw"))
    os.environ.setdefault("BROKER_URL", f"redis+socket://{_home.valkey_socket}?virtual_host={_number}")
    os.environ.setdefault("CACHE_URL", f"unix://{_home.valkey_socket}?db={_number + 1}")
os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe())  # the web process refuses to start without
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.config.settings")
django.setup()
TOGETHER = [Path(__file__).parent / folder for folder in ("runtimes", "marketplace/embedded")]
pytest_plugins = ["tests.people", "tests.market"]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers of xdist use what their controller has started
        _start_services(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup`: whatever shares something slow to start runs in one worker."""
    for item in items:
        for folder in TOGETHER:
            if item.path.is_relative_to(folder):
                item.add_marker(pytest.mark.xdist_group(folder.name))


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
