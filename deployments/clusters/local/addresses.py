"""Gives each pod a loopback address of its own, so that every container may use the port it declares.

Linux routes all of 127.0.0.0/8 to the loopback device. The address is derived from the pod's uid, so that two
installations on one machine rarely meet and a new pod rarely gets the address of one just gone; where they
do meet, the next free one is taken.
"""

from __future__ import annotations

import errno
import socket
import zlib
from collections.abc import Collection
from itertools import count

NETWORK = "127.77"
HOSTS = 254 * 254  # third and fourth part both 1..254


def choose_address(uid: str, *, taken: Collection[str], port: int | None) -> str:
    """An address of 127.77.0.0/16 that no pod of ours has and where `port` is free."""
    first = zlib.crc32(uid.encode())
    for step in count():
        number = (first + step) % HOSTS
        address = f"{NETWORK}.{number // 254 + 1}.{number % 254 + 1}"
        if address not in taken and (port is None or _is_free(address, port)):
            return address
        if step >= HOSTS:
            break
    raise OSError(errno.EADDRNOTAVAIL, f"every address of {NETWORK}.0.0/16 is in use on port {port}")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True
