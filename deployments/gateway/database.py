"""Django's database from an event loop: a few threads of our own, each with its connection.

`asgiref.sync_to_async` would put every query of the process on one thread. Connections that broke (a restart
of PostgreSQL) are dropped before the next query, as Django does at the start of a request.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import close_old_connections, connections

P = ParamSpec("P")
R = TypeVar("R")


class Database:
    """Runs functions that use the ORM. `close` it in the end, or its connections stay open."""

    def __init__(self, *, threads: int = 4) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gateway-database")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of the function, from one of the threads."""

        def call() -> R:
            close_old_connections()
            return function(*args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """Closes every thread's connection and ends the threads. Blocks until running queries are done."""
        # All threads meet at the barrier, so each of them runs the function once.
        everyone = threading.Barrier(self._threads)

        def disconnect() -> None:
            everyone.wait()
            connections.close_all()

        for _ in range(self._threads):
            self._pool.submit(disconnect)
        self._pool.shutdown(wait=True)
