"""Runs the controllers: notes which objects changed, and lets each controller look at them, one by one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Protocol

from tests.kubernetes.api.refusals import Refused
from tests.kubernetes.api.server import Server
from tests.kubernetes.api.store import Change

logger = logging.getLogger(__name__)

SLICE_SECONDS = 0.005
"""How long controllers work before requests get their turn."""
RETRY_SECONDS = 0.2
CATCHING_UP = 10_000
"""Looks; a controller that is never done does not stop the test."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long things take that take minutes on a real cluster. Seconds."""

    job_backoff: float = 0.2
    """Before the first retry of a Job's pod, then twice as long each time. Kubernetes: 10."""
    node_grace: float = 20.0
    """Without news from a node's kubelet (its lease) until the node counts as unreachable. Kubernetes: 40."""
    toleration: float | None = 1.0
    """How long pods stay on a node that is not ready; None = as their tolerations say. Kubernetes: 300."""


class Controller(Protocol):
    """One loop: which of its objects a change concerns, and what to do about one of them."""

    def concerned(self, change: Change) -> Iterable[Hashable]:
        """Keys of what has to be looked at because of the change."""
        ...

    def reconcile(self, key: Hashable) -> float | None:
        """Brings one thing a step closer to what it should be. Seconds until to look again, None = never."""
        ...


class Manager:
    """All controllers of one server. Lives in the server's event loop."""

    def __init__(self, server: Server, controllers: Iterable[Controller]) -> None:
        self._server = server
        self._controllers = list(controllers)
        self._waiting: dict[tuple[int, Hashable], None] = {}
        self._timers: dict[tuple[int, Hashable], asyncio.TimerHandle] = {}
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.paused = False
        """While the API server is away nothing can be done."""
        self.by_hand = False
        """Nothing is done but by `catch_up`: for tests with a clock of their own."""
        server.store.listeners.append(self._note)

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())

    def stop(self) -> None:
        if self._task:
            self._task.cancel()
        for timer in self._timers.values():
            timer.cancel()

    def resume(self) -> None:
        self.paused = False
        self._awake.set()

    def catch_up(self) -> None:
        """Looks at all that waits, and at all that waits for its time: for clocks that are set forward."""
        for item, timer in list(self._timers.items()):
            timer.cancel()
            self._due(item)
        for _ in range(CATCHING_UP):
            if not self._waiting:
                return
            self._look(next(iter(self._waiting)))

    @property
    def is_idle(self) -> bool:
        """Nothing is waiting to be looked at, timers aside."""
        return not self._waiting

    def _note(self, change: Change) -> None:
        for number, controller in enumerate(self._controllers):
            for key in controller.concerned(change):
                self._waiting[number, key] = None
        if self._waiting:
            self._awake.set()

    async def _work(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            until = time.perf_counter() + SLICE_SECONDS
            while self._waiting and not (self.paused or self.by_hand):
                self._look(next(iter(self._waiting)))
                if time.perf_counter() > until:
                    await asyncio.sleep(0)
                    until = time.perf_counter() + SLICE_SECONDS

    def _look(self, item: tuple[int, Hashable]) -> None:
        del self._waiting[item]
        if timer := self._timers.pop(item, None):
            timer.cancel()
        number, key = item
        try:
            again = self._controllers[number].reconcile(key)
        except Refused as refused:  # somebody was faster, or admission said no
            logger.info("%s will be looked at again: %s", key, refused)
            again = RETRY_SECONDS
        except Exception:
            logger.exception("%s cannot be handled", key)
            again = RETRY_SECONDS * 5
        if again is not None:
            self._timers[item] = asyncio.get_running_loop().call_later(again, self._due, item)

    def _due(self, item: tuple[int, Hashable]) -> None:
        self._timers.pop(item, None)
        self._waiting[item] = None
        self._awake.set()
