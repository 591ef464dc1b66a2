"""home/credentials.json: the passwords and the API key of a new installation.

The database keeps hashes only, so what `bootstrap` makes is written down here, readable by the owner of the
home alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from marketplace.accounts.bootstrap import Credentials, bootstrap


def credentials_file(root: Path) -> Path:
    return root / "credentials.json"


def read_credentials(root: Path) -> Credentials | None:
    """The credentials of this home; None when none were written."""
    try:
        return Credentials(**json.loads(credentials_file(root).read_text()))
    except FileNotFoundError:
        return None


def write_credentials(root: Path, credentials: Credentials) -> None:
    """Replaces the file as a whole."""
    fresh = root / "credentials.json.new"
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(asdict(credentials), indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, credentials_file(root))


def ensure_credentials(root: Path, *, database_is_ours: bool) -> Credentials:
    """Makes the first people where they are missing, and writes down their secrets.

    Without a file the secrets of people who exist are lost: we died before writing it, or it was removed. In
    the embedded database they are made anew; in somebody else's we change no password, and they stay None.
    """
    known = read_credentials(root)
    made = bootstrap(reset=known is None and database_is_ours)
    credentials = made if known is None else _merge(known, made)
    if credentials != known:
        write_credentials(root, credentials)
    return credentials


def _merge(known: Credentials, made: Credentials) -> Credentials:
    """What was just made replaces what was known: the database is new, or lost that person."""
    return Credentials(**{**asdict(known), **{k: v for k, v in asdict(made).items() if v is not None}})
