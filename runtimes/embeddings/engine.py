"""Turns token ids into vectors: inputs of all waiting requests in one batch, a request's own in several."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtimes.batches import observe_batch
from runtimes.embeddings.encoder import Encoder
from runtimes.engine_thread import EngineThread
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


class EncoderEngine(EngineThread[tuple[_Job, int]]):
    """One thread that turns token ids into vectors."""

    name = "transformers-encoder"
    what = "encoder"

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder
        self._queue: FairQueue[_Job] = FairQueue()

    async def encode(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """One vector for each input, in order: [inputs, H]. An input whose caller has left is not computed.

        Raises EngineFailure.
        """
        job = _Job(inputs)
        queued = Queued(owner=job, lengths=list(map(len, inputs)))
        with self._adding():
            self._queue.add(queued)
        try:
            return await job.answer
        finally:
            queued.left = True

    @property
    def queued(self) -> int:
        """Inputs that wait."""
        with self._changed:
            return len(self._queue)

    def _take(self) -> list[tuple[_Job, int]]:
        return self._queue.take(tokens=self._encoder.batch_tokens)

    def _compute(self, batch: list[tuple[_Job, int]]) -> None:
        sequences = [job.inputs[index] for job, index in batch]
        observe_batch(sequences=len(sequences), tokens=sum(map(len, sequences)))
        for (job, index), vector in zip(batch, self._encoder(sequences).numpy(), strict=True):
            job.vectors[index] = vector
            job.missing -= 1
            if job.missing == 0:
                job.settle()

    def _give_up(self, batch: list[tuple[_Job, int]], failure: EngineFailure) -> None:
        for job in {*self._queue.clear(), *(job for job, _ in batch)}:
            job.settle(failure)
