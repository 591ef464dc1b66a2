"""The thread of an engine that computes what has queued, as soon as the last batch is done.

No timer, no fixed batch size: under light load a request is computed alone and at once; under heavy load the
queue fills while a batch runs, and the next batch is larger. (The design of Hugging Face's
text-embeddings-inference.)
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from runtimes.errors import EngineFailure

T = TypeVar("T")


class EngineThread(ABC, Generic[T]):
    """One thread; what waits for it, and what a batch is, its kinds know. T is one thing of a batch."""

    what: str
    """For messages, such as `encoder`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Starts the thread. `on_failure` is called when it breaks for good."""
        self._thread = threading.Thread(target=self._run, args=(on_failure,), name=self.what, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the batch it is computing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def _adding(self) -> Iterator[None]:
        """Within, something may be added to what waits. Raises EngineFailure once the thread has ended."""
        with self._changed:
            if self._stopping:
                raise EngineFailure(f"the {self.what} has stopped")
            yield
            self._changed.notify()

    @abstractmethod
    def _take(self) -> list[T]:
        """Takes the next batch out of what waits, under the lock; empty when nobody waits any more."""

    @abstractmethod
    def _compute(self, batch: list[T]) -> None:
        """Computes a batch and tells its callers, in the thread."""

    @abstractmethod
    def _give_up(self, batch: list[T], failure: EngineFailure) -> None:
        """Tells the callers of a batch and all that wait, under the lock."""

    def _run(self, on_failure: Callable[[BaseException], None]) -> None:
        batch: list[T] = []
        try:
            while batch := self._next():
                self._compute(batch)
        except Exception as error:
            failure = EngineFailure(f"the {self.what} failed: {error}")
            with self._changed:
                self._stopping = True
                self._give_up(batch, failure)
            on_failure(failure)

    def _next(self) -> list[T]:
        """The next batch; waits while there is nothing to compute. Empty when stopping."""
        with self._changed:
            while not self._stopping:
                if batch := self._take():
                    return batch
                self._changed.wait()
            return []
