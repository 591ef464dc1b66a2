"""The host and port that web and gateway listen on, taken from their URLs."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit


class AddressRefused(Exception):
    """The address cannot be listened on. The message says what to change."""


def host_and_port(url: str) -> tuple[str, int]:
    """Where a URL points: ("127.0.0.1", 8080) for http://127.0.0.1:8080."""
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.hostname or "127.0.0.1", parts.port or default


def with_free_port(url: str, *, avoid: frozenset[int] = frozenset()) -> str:
    """The same URL with a port that is free at this moment and not in `avoid`."""
    parts = urlsplit(url)
    host, _ = host_and_port(url)
    while True:
        with socket.create_server((host, 0)) as listener:
            port = int(listener.getsockname()[1])
        if port not in avoid:
            shown = f"[{host}]" if ":" in host else host
            return parts._replace(netloc=f"{shown}:{port}").geturl()


def check_free(variable: str, url: str, *, patience: float = 3.0) -> None:
    """Raises AddressRefused when the URL's port is taken for longer than `patience` seconds.

    The patience is for a predecessor that is being killed at this moment.
    """
    host, port = host_and_port(url)
    deadline = time.monotonic() + patience
    while True:
        try:
            with socket.create_server((host, port), family=_family(host)):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise AddressRefused(
                    f"{variable}={url}: cannot listen on {host} port {port} ({error.strerror or error}): "
                    f"stop what uses it, set {variable} to another port, or use `--ports auto`"
                ) from error
        time.sleep(0.1)


def accepts_connections(url: str) -> bool:
    """Whether something listens at the URL."""
    try:
        with socket.create_connection(host_and_port(url), timeout=1):
            return True
    except OSError:
        return False


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
