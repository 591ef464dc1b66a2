"""The default text engine: continuous batching of transformers, on any device torch has.

Sequences join and leave the batch at every step, over a paged key/value cache. The library has one set of
sampling settings for all requests and draws from one source of chance; here each request has its own: the
library is told to be greedy, and a processor of ours leaves only the choice in each row of logits (see
sampling.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.continuous_api import OutputRouter
from transformers.generation.continuous_batching.requests import RequestStatus

from runtimes.batches import observe_batch
from runtimes.errors import EngineFailure, SequenceFailure
from runtimes.text.engine import EVERY_CHOICE, GenerationRequest, Token
from runtimes.text.sampling import Chooser

logger = logging.getLogger(__name__)

PAGE_TOKENS = 64
"""Tokens in one page of the cache: a prompt's beginning is reused in whole pages, a sequence wastes half a
page.
"""
MAX_BATCH_TOKENS = 512
"""Tokens computed in one step.

A longer prompt is taken in parts, so that it does not hold up running answers.
"""


@dataclass
class _Running:
    """One request inside the engine.

    All belongs to the generation thread but `arrived`, which is the event loop's.
    """

    loop: asyncio.AbstractEventLoop
    chooser: Chooser
    chosen: list[Token] = field(default_factory=list)
    """What the chooser chose and the library has not delivered."""
    delivered: int = 0
    failure: str | None = None
    """Why this sequence cannot go on."""
    arrived: asyncio.Queue[_Progress] = field(default_factory=asyncio.Queue)


@dataclass(frozen=True)
class _Progress:
    tokens: Sequence[Token] = ()
    finished: bool = False
    error: EngineFailure | None = None


class ContinuousBatchingEngine:
    """Continues up to `max_concurrency` sequences at once.

    `cache_tokens` is the room of the key/value cache, at least one whole context. When the running sequences
    outgrow it, the library sets the youngest back and computes them again later: slower, but never wrong.
    """

    name = "transformers-continuous-batching"
    supports = EVERY_CHOICE

    def __init__(
        self, model: PreTrainedModel, *, end_tokens: Sequence[int], max_concurrency: int, cache_tokens: int
    ) -> None:
        self._running: dict[str, _Running] = {}
        self._numbers = count()
        self._on_failure: Callable[[BaseException], None] = lambda error: None
        # The library is not typed well enough to check calls to it.
        untyped: Any = model
        self._manager: Any = untyped.init_continuous_batching(
            generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                do_sample=False, eos_token_id=list(end_tokens) or None, pad_token_id=0, max_new_tokens=1
            ),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE_TOKENS,
                num_blocks=-(-cache_tokens // PAGE_TOKENS) + 1,
                max_batch_tokens=max(MAX_BATCH_TOKENS, max_concurrency),
                max_requests_per_batch=max_concurrency,
                # Our processor is Python over the rows of one step: no captured graphs, no step in advance.
                use_cuda_graph=False,
                use_async_batching=False,
                # Otherwise kernels are looked for on the hub.
                auto_switch_to_flash=False,
                max_blocks_per_request=0,
            ),
        )
        self._manager.logit_processor = ContinuousBatchingLogitsProcessorList(
            LogitsProcessorList([_RowProcessor(self._running)])
        )
        self._manager.logit_processor.tensors_required = 1
        self._manager.output_router = _Router(self._running, on_failure=self._fail)

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Starts the generation thread."""
        self._on_failure = on_failure
        self._manager.start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """Tokens as they are computed; closing the generator takes the sequence out of the batch."""
        request_id = f"sequence-{next(self._numbers)}"
        running = _Running(
            loop=asyncio.get_running_loop(),
            chooser=Chooser(request, device=self._manager.model.device),
        )
        self._running[request_id] = running
        try:
            accepted = self._manager.add_request(
                list(request.prompt), request_id=request_id, max_new_tokens=request.max_tokens, streaming=True
            )
            if accepted is None:
                raise EngineFailure("the generation thread has stopped")
            while True:
                progress = await running.arrived.get()
                for token in progress.tokens:
                    yield token
                if progress.error is not None:
                    raise progress.error
                if progress.finished:
                    return
        finally:
            del self._running[request_id]
            # Does nothing to a sequence that is done.
            self._manager.cancel_request(request_id)

    def stop(self) -> None:
        """Ends the generation thread within one step."""
        self._on_failure = lambda error: None  # what is cut off now fails because we ask for it
        self._manager.stop(block=True, hard_stop=True)

    @property
    def active(self) -> int:
        """Sequences the library still holds, waiting ones included."""
        processor = self._manager.batch_processor
        scheduler = processor.scheduler if processor is not None else None
        return (
            len(scheduler.active_requests) + len(scheduler.waiting_requests) if scheduler is not None else 0
        )

    def _fail(self, message: str) -> None:
        self._on_failure(EngineFailure(message))


class _RowProcessor(ContinuousBatchingLogitsProcessor):
    """Applies each request's own sampling to its own row of logits."""

    supported_kwargs: dict[str, type] = {}
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, running: dict[str, _Running]) -> None:
        self._running = running
        self._rows: list[_Running | None] = []

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        # Called right before the step it belongs to, in the same thread, in the order of the rows.
        self._rows = [self._running.get(future.state.request_id) for future in requests_with_new_token]
        observe_batch(sequences=len(self._rows))
        return torch.zeros(len(self._rows), dtype=torch.int32)

    def __call__(
        self, scores: torch.Tensor, tensor_arg: torch.Tensor
    ) -> torch.Tensor:  # scores: [rows, vocabulary]
        for index, running in enumerate(self._rows):
            if running is None or running.chooser.is_plain or running.failure is not None:
                continue
            try:
                token = running.chooser.choose(scores[index])
            except Exception as error:
                logger.exception("a sequence cannot go on")
                running.failure = str(error)
                continue
            running.chosen.append(token)
            scores[index] = -torch.inf
            scores[index, token.id] = 0.0
        return scores


class _Router(OutputRouter):
    """Hands new tokens from the generation thread to the event loop, all of one step in one call."""

    def __init__(self, running: dict[str, _Running], *, on_failure: Callable[[str], None]) -> None:
        super().__init__()
        self._running = running
        self._on_failure = on_failure

    def deliver(self, output: Any) -> None:
        self.deliver_batch([output])

    def deliver_batch(self, outputs: list[Any]) -> None:
        news: dict[asyncio.AbstractEventLoop, list[tuple[_Running, _Progress]]] = defaultdict(list)
        for output in outputs:
            running = self._running.get(output.request_id)
            if output.status == RequestStatus.FAILED and output.error is not None:
                self._on_failure(output.error)
            if running is None:
                continue
            news[running.loop].append((running, _progress_of(running, output)))
        for loop, items in news.items():
            loop.call_soon_threadsafe(_hand_over, items)


def _progress_of(running: _Running, output: Any) -> _Progress:
    """What is new in the library's account of all it generated for a request."""
    if output.error is not None:
        return _Progress(error=EngineFailure(output.error))
    if running.failure is not None:
        return _Progress(error=SequenceFailure(running.failure))
    ids = output.generated_tokens[running.delivered :]
    running.delivered += len(ids)
    if running.chooser.is_plain:
        tokens = [Token(token) for token in ids]
    else:
        tokens, running.chosen = running.chosen[: len(ids)], running.chosen[len(ids) :]
    return _Progress(tokens=tokens, finished=output.is_finished())


def _hand_over(items: list[tuple[_Running, _Progress]]) -> None:
    for running, progress in items:
        running.arrived.put_nowait(progress)
