"""Where one installation keeps its data, sockets and logs. Pure: computes paths, creates nothing.

Everything lies under one folder, MARKETPLACE_HOME (`var` in the checkout unless set), so that removing it
removes the installation. Sockets move to the temporary folder when the home's path is too long for one.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

LONGEST_SOCKET_PATH = 100
"""Bytes; Linux takes 107 and PostgreSQL appends '/.s.PGSQL.5432.lock' to its folder."""
DATABASE_NAME = "marketplace"


@dataclass(frozen=True)
class Home:
    """The folders of one installation."""

    root: Path

    @property
    def postgres_data(self) -> Path:
        return self.root / "postgres"

    @property
    def valkey_data(self) -> Path:
        return self.root / "valkey"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def storage(self) -> Path:
        """Weights, datasets and adapters."""
        return self.root / "storage"

    @property
    def cluster(self) -> Path:
        """State of the local cluster: objects, pods, their logs."""
        return self.root / "cluster"

    @property
    def beat(self) -> Path:
        """When the periodic tasks last ran."""
        return self.root / "beat"

    @property
    def sockets(self) -> Path:
        """Folder of the UNIX sockets of PostgreSQL and Valkey."""
        folder = self.root / "run"
        if len(str(folder / ".s.PGSQL.5432.lock")) <= LONGEST_SOCKET_PATH:
            return folder
        digest = hashlib.sha256(str(self.root).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"marketplace-{digest}"

    @property
    def secret_key(self) -> Path:
        """File with Django's SECRET_KEY of this installation; made by the first `manage.py up`."""
        return self.root / "secret-key"

    @property
    def database_url(self) -> str:
        return f"postgres://postgres@{quote(str(self.sockets), safe='')}/{DATABASE_NAME}"

    @property
    def valkey_socket(self) -> Path:
        return self.sockets / "valkey.sock"

    @property
    def broker_url(self) -> str:
        """Celery's broker."""
        return f"redis+socket://{self.valkey_socket}?virtual_host=0"

    @property
    def cache_url(self) -> str:
        return f"unix://{self.valkey_socket}?db=1"
