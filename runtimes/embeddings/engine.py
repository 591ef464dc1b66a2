"""Computes what has queued, as soon as the last batch is done: no timer, no fixed batch size.

Under light load a text is computed alone and at once; under heavy load the queue fills while a batch runs,
and the next batch is larger. (The design of Hugging Face's text-embeddings-inference.)
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from runtimes.batches import observe_batch
from runtimes.embeddings.pooling import Pooling
from runtimes.errors import EngineFailure
from runtimes.packing.padded import plan_batches

BATCH_TOKENS = 4096
"""Tokens of one computation, padding included."""
QUEUE_TOKENS = 4 * BATCH_TOKENS
"""Tokens taken from the queue at a time: enough to sort by length, few enough that a new request is not
long in line."""


@dataclass(frozen=True)
class _Item:
    tokens: Sequence[int]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[list[float]]


class EncoderEngine:
    """One thread that turns token ids into vectors."""

    name = "transformers-encoder"

    def __init__(self, model: PreTrainedModel, *, pooling: Pooling, pad_token: int) -> None:
        self._model = model
        self._pooling = pooling
        self._pad_token = pad_token
        self._queue: deque[_Item] = deque()
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

    async def encode(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """One vector for each input, in order. An input whose caller has left is not computed."""
        loop = asyncio.get_running_loop()
        items = [_Item(tokens, loop, loop.create_future()) for tokens in inputs]
        with self._changed:
            if self._stopping:
                raise EngineFailure("the encoder has stopped")
            self._queue.extend(items)
            self._changed.notify()
        try:
            return await asyncio.gather(*(item.answer for item in items))
        finally:
            for item in items:
                item.answer.cancel()

    @property
    def queued(self) -> int:
        """Inputs that wait."""
        return len(self._queue)

    def _run(self, on_failure: Callable[[BaseException], None]) -> None:
        taken: list[_Item] = []
        try:
            while taken := self._take():
                for batch in plan_batches([len(item.tokens) for item in taken], max_tokens=BATCH_TOKENS):
                    items = [taken[index] for index in batch if not taken[index].answer.cancelled()]
                    if items:
                        self._deliver(items, self._compute([item.tokens for item in items]))
        except Exception as error:
            failure = EngineFailure(f"the encoder failed: {error}")
            with self._changed:
                self._stopping = True
                waiting = [*taken, *self._queue]
                self._queue.clear()
            for item in waiting:
                item.loop.call_soon_threadsafe(_fail, item.answer, failure)
            on_failure(failure)

    def _take(self) -> list[_Item]:
        """The oldest inputs, up to a budget of tokens; waits while there are none. Empty when stopping."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping)
            taken: list[_Item] = []
            tokens = 0
            while self._queue and not self._stopping and (not taken or tokens < QUEUE_TOKENS):
                item = self._queue.popleft()
                if not item.answer.cancelled():
                    taken.append(item)
                    tokens += len(item.tokens)
                elif not self._queue and not taken:
                    # All that waited were cancelled: wait again.
                    self._changed.wait_for(lambda: self._queue or self._stopping)
            return taken

    @torch.inference_mode()
    def _compute(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        observe_batch(sequences=len(inputs), tokens=sum(map(len, inputs)))
        longest = max(map(len, inputs))
        padded = [[*tokens, *[self._pad_token] * (longest - len(tokens))] for tokens in inputs]
        ids = torch.tensor(padded, device=self._model.device)  # [B, S]
        lengths = torch.tensor([len(tokens) for tokens in inputs], device=self._model.device)
        mask = (torch.arange(longest, device=self._model.device) < lengths.unsqueeze(1)).long()  # [B, S]
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state  # [B, S, H]
        vectors: list[list[float]] = self._pooling(hidden, mask).cpu().tolist()
        return vectors

    def _deliver(self, items: Sequence[_Item], vectors: Sequence[list[float]]) -> None:
        for item, vector in zip(items, vectors, strict=True):
            item.loop.call_soon_threadsafe(_answer, item.answer, vector)


def _answer(future: asyncio.Future[list[float]], vector: list[float]) -> None:
    if not future.done():
        future.set_result(vector)


def _fail(future: asyncio.Future[list[float]], failure: EngineFailure) -> None:
    if not future.done():
        future.set_exception(failure)
