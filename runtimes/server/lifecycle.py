"""The life of one server: it starts, is ready, drains, and has a reason to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from runtimes.contract import ExitCode, ServingEnvironment, Task
from runtimes.served import ServedModel
from runtimes.server.admission import Admission
from runtimes.server.errors import unavailable
from runtimes.server.metrics import Metrics

CUT_OFF_SECONDS = 2.0
"""To tell the clients of requests that are cut off, before their connections are closed."""


class Phase(StrEnum):
    """Where a server is in its life."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


class Serving:
    """Everything that the routes share. All of it belongs to the event loop."""

    def __init__(self, environment: ServingEnvironment) -> None:
        self.environment = environment
        self.phase = Phase.LOADING
        self.model: ServedModel | None = None
        self.metrics = Metrics()
        running, waiting = _places(environment)
        self.admission = Admission(
            max_running=running,
            max_waiting=waiting,
            on_begin=self.metrics.queue_seconds.observe,
        )
        self.metrics.watch(
            ready=lambda: self.phase is Phase.READY,
            waiting=lambda: self.admission.waiting,
            running=lambda: self.admission.running,
            predicted_bytes=lambda: self.model.facts.predicted_bytes if self.model is not None else 0,
        )
        self.created = int(time.time())
        self.load_seconds = 0.0
        self.warm_up_seconds = 0.0
        self.exit_code: asyncio.Future[ExitCode] = asyncio.get_running_loop().create_future()
        """Set once, when the server should end."""
        self.cut_off = asyncio.Event()
        """Set when running requests cannot be waited for any longer."""
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def require_model(self) -> ServedModel:
        """The model, for a request that arrived now.

        Raises the 503 error before it is ready and while draining.
        """
        if self.phase is Phase.DRAINING:
            raise unavailable("This server is stopping and takes no new requests.")
        if self.phase is not Phase.READY or self.model is None:
            raise unavailable("The model is still loading.", retry_after=2)
        return self.model

    def end(self, code: ExitCode) -> None:
        """Ends the server with this code, unless another reason came first."""
        if not self.exit_code.done():
            self.exit_code.set_result(code)

    @contextmanager
    def open_request(self) -> Iterator[None]:
        """Counts a request that draining must wait for."""
        self._open += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._open -= 1
            if self._open == 0:
                self._idle.set()

    async def drain(self) -> bool:
        """Takes no new requests and waits for the running ones; False when some had to be cut off."""
        self.phase = Phase.DRAINING
        if await self._wait_idle(self.environment.drain_seconds):
            return True
        self.cut_off.set()
        await self._wait_idle(CUT_OFF_SECONDS)
        return False

    async def _wait_idle(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


def _places(environment: ServingEnvironment) -> tuple[int, int]:
    """How many requests may compute and wait. An encoder's engine has a queue of its own, from which it fills
    batches by tokens: whatever waited in front of it would be missing in a batch.
    """
    if environment.task is Task.FEATURE_EXTRACTION:
        return environment.max_concurrency + environment.max_queue, 0
    return environment.max_concurrency, environment.max_queue
