"""Who may compute now, who waits, and who is told to come back later."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from runtimes.server.errors import too_busy

LONGEST_RETRY = 60
"""Seconds; nobody is told to wait longer before trying again."""


class Admission:
    """Places for `max_running` sequences, and a queue of at most `max_waiting` in order of arrival."""

    def __init__(self, *, max_running: int, max_waiting: int) -> None:
        self._places = asyncio.Semaphore(max_running)
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._admitted = 0
        self.running = 0
        self._usual_seconds = 1.0

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return self._admitted - self.running

    @property
    def largest(self) -> int:
        """Sequences that one request can have at most."""
        return self._max_running + self._max_waiting

    @contextmanager
    def admit(self, sequences: int) -> Iterator[None]:
        """Lets a request of so many sequences in, all or none.

        Raises the 429 error when the queue has no room.
        """
        if self._admitted + sequences > self.largest:
            raise too_busy(retry_after=self._retry_after())
        self._admitted += sequences
        try:
            yield
        finally:
            self._admitted -= sequences

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for a place for one admitted sequence, and holds it."""
        async with self._places:
            started = asyncio.get_running_loop().time()
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1
                seconds = asyncio.get_running_loop().time() - started
                self._usual_seconds += 0.2 * (seconds - self._usual_seconds)

    def _retry_after(self) -> int:
        """Seconds until the queue has probably moved on by one."""
        rounds = 1 + self.waiting / self._max_running
        return min(max(math.ceil(self._usual_seconds * rounds), 1), LONGEST_RETRY)
