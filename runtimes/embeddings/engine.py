"""Computes what has queued, as soon as the last batch is done: no timer, no fixed batch size.

Under light load a text is computed alone and at once; under heavy load the queue fills while a batch runs,
and the next batch is larger. (The design of Hugging Face's text-embeddings-inference.)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from runtimes.batches import observe_batch
from runtimes.embeddings.encoder import Encoder
from runtimes.errors import EngineFailure
from runtimes.packing.queue import FairQueue, Queued

Vectors = NDArray[np.float32]


class _Job:
    """One request: its inputs, and what of the answer is there."""

    def __init__(self, inputs: Sequence[Sequence[int]]) -> None:
        self.inputs = inputs
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Vectors] = self.loop.create_future()
        self.vectors: list[Vectors | None] = [None] * len(inputs)
        self.missing = len(inputs)

    def settle(self, failure: EngineFailure | None = None) -> None:
        """Answers from the engine's thread: once for a request, since each call wakes the event loop."""
        self.loop.call_soon_threadsafe(self._settle, failure)

    def _settle(self, failure: EngineFailure | None) -> None:
        if self.answer.done():
            return
        if failure is not None:
            self.answer.set_exception(failure)
        else:
            self.answer.set_result(np.stack([vector for vector in self.vectors if vector is not None]))


class EncoderEngine:
    """One thread that turns token ids into vectors."""

    name = "transformers-encoder"

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._queue: FairQueue[_Job] = FairQueue()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Starts the thread. `on_failure` is called when it breaks for good."""
        self._thread = threading.Thread(target=self._run, args=(on_failure,), name="encoder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the batch it is computing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    async def encode(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """One vector for each input, in order: [inputs, H]. An input whose caller has left is not computed.

        Raises EngineFailure.
        """
        job = _Job(inputs)
        queued = Queued(owner=job, lengths=list(map(len, inputs)))
        with self._changed:
            if self._stopping:
                raise EngineFailure("the encoder has stopped")
            self._queue.add(queued)
            self._changed.notify()
        try:
            return await job.answer
        finally:
            queued.left = True

    @property
    def queued(self) -> int:
        """Inputs that wait."""
        with self._changed:
            return len(self._queue)

    def _run(self, on_failure: Callable[[BaseException], None]) -> None:
        batch: list[tuple[_Job, int]] = []
        try:
            while batch := self._take():
                sequences = [job.inputs[index] for job, index in batch]
                observe_batch(sequences=len(sequences), tokens=sum(map(len, sequences)))
                for (job, index), vector in zip(batch, self._encoder(sequences).numpy(), strict=True):
                    job.vectors[index] = vector
                    job.missing -= 1
                    if job.missing == 0:
                        job.settle()
        except Exception as error:
            failure = EngineFailure(f"the encoder failed: {error}")
            with self._changed:
                self._stopping = True
                waiting = {*self._queue.clear(), *(job for job, _ in batch)}
            for job in waiting:
                job.settle(failure)
            on_failure(failure)

    def _take(self) -> list[tuple[_Job, int]]:
        """The next batch; waits while there is nothing to compute. Empty when stopping."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._stopping)
                if self._stopping:
                    return []
                # Nothing is left of a queue whose callers have all gone in this moment.
                if batch := self._queue.take(tokens=self._encoder.batch_tokens):
                    return batch
