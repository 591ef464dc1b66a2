"""Who may compute now, who waits, and who is told to come back later."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from runtimes.server.errors import too_busy

LONGEST_RETRY = 60
"""Seconds; nobody is told to wait longer before trying again."""


@dataclass
class Ticket:
    """One admitted request."""

    begun: bool = False
    """Whether any of its sequences has had a place."""


_ticket: ContextVar[Ticket] = ContextVar("ticket")
"""Of the request that the running task works for: whoever computes asks for a place, and need not know it."""


class Admission:
    """Places for `max_running` sequences, and a queue of at most `max_waiting` in order of arrival.

    `on_begin` is told how many seconds a sequence has waited when it gets its place.
    """

    def __init__(
        self, *, max_running: int, max_waiting: int, on_begin: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self._places = asyncio.Semaphore(max_running)
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._admitted = 0
        self.running = 0
        self._usual_seconds = 1.0
        self._on_begin = on_begin

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return self._admitted - self.running

    @property
    def largest(self) -> int:
        """Sequences that one request can have at most."""
        return self._max_running + self._max_waiting

    @contextmanager
    def admit(self, sequences: int) -> Iterator[Ticket]:
        """Lets a request of so many sequences in, all or none.

        Raises the 429 error when the queue has no room.
        """
        if self._admitted + sequences > self.largest:
            raise too_busy(retry_after=self.retry_after())
        self._admitted += sequences
        ticket = Ticket()
        outer = _ticket.set(ticket)
        try:
            yield ticket
        finally:
            _ticket.reset(outer)
            self._admitted -= sequences

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for a place for one admitted sequence, and holds it."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._places:
            started = loop.time()
            self._on_begin(started - asked)
            if (ticket := _ticket.get(None)) is not None:
                ticket.begun = True
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1
                seconds = loop.time() - started
                self._usual_seconds += 0.2 * (seconds - self._usual_seconds)

    def retry_after(self) -> int:
        """Seconds until the queue has probably moved on by one."""
        rounds = 1 + self.waiting / self._max_running
        return min(max(math.ceil(self._usual_seconds * rounds), 1), LONGEST_RETRY)
