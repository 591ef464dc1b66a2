"""A small cache for answers of the database: one question at a time per key, old answers while it is down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db import DatabaseError, InterfaceError

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class _Entry(Generic[V]):
    value: V
    loaded: float
    """By the clock."""
    asked_again: bool = False
    """Somebody knows that the value is old."""


class Remembered(Generic[K, V]):
    """The value of each key, loaded when it is older than `age` seconds.

    When the database does not answer, a value up to `stale` seconds old is used instead, so that its restart
    does not interrupt calls; without one the database's error is raised. Keeps the `size` newest keys.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        *,
        age: float,
        stale: float,
        size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._age = age
        self._stale = stale
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        entry = self._entries.get(key)
        if entry is not None and not entry.asked_again and self._clock() - entry.loaded < self._age:
            return entry.value
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._refresh(key))
        try:
            # Shielded: a caller that hangs up must not cancel the query that others wait for.
            return await asyncio.shield(task)
        except (DatabaseError, InterfaceError):
            if entry is not None and self._clock() - entry.loaded < self._stale:
                return entry.value
            raise

    def forget(self, key: K) -> None:
        """Loads the value again at the next `get`."""
        if key in self._entries:
            self._entries[key].asked_again = True

    async def _refresh(self, key: K) -> V:
        try:
            asked = self._clock()
            value = await self._load(key)
            # As old as the question: the answer may have been on its way for a while.
            self._entries[key] = _Entry(value, asked)
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
            return value
        except (DatabaseError, InterfaceError) as error:
            logger.warning("The database does not answer: %s", error)
            raise
        finally:
            self._loading.pop(key, None)
