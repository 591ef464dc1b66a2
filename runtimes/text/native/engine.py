"""Continuous batching for `Decoder`: one thread, one step after the other, in which sequences join and leave.

A step computes the next token of every running answer and a bounded part of the prompts that have arrived, so
that a long prompt does not hold up the answers.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

import torch

from runtimes.batches import observe_batch
from runtimes.errors import EngineFailure, SequenceFailure
from runtimes.text.engine import EVERY_CHOICE, GenerationRequest, Token
from runtimes.text.native.cache import Slot, SlotCache
from runtimes.text.native.decoder import Decoder, Part
from runtimes.text.sampling import Chooser

logger = logging.getLogger(__name__)

STEP_TOKENS = 256
"""Prompt tokens computed in one step while answers run."""

News = Token | EngineFailure | None
"""A token, why there are no more, or None after the last one."""


@dataclass(eq=False)
class _Sequence:
    """One request inside the engine; all but `arrived` and `canceled` belongs to the engine's thread."""

    request: GenerationRequest
    loop: asyncio.AbstractEventLoop
    chooser: Chooser
    arrived: asyncio.Queue[News] = field(default_factory=asyncio.Queue)
    canceled: bool = False
    """Set by the event loop, read by the thread."""
    slot: Slot | None = None
    remaining: deque[int] = field(default_factory=deque)
    """Tokens that are not in the cache yet: of the prompt, then the one that was chosen last."""
    generated: int = 0


class NativeEngine:
    """Continues up to `max_concurrency` sequences at once; more wait in order of arrival.

    `cache_tokens` bounds what the running sequences may hold together at their full lengths; it is at least
    one context, so that every request fits at some time.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        name: str,
        end_tokens: Sequence[int],
        max_concurrency: int,
        context_length: int,
        cache_tokens: int,
    ) -> None:
        self.name = name
        self.supports = EVERY_CHOICE
        self._decoder = decoder
        self._end_tokens = frozenset(end_tokens)
        self._cache = SlotCache(
            layers=decoder.layers,
            slots=max_concurrency,
            heads=decoder.key_heads,
            head_size=decoder.head_size,
            context_length=context_length,
        )
        self._cache_tokens = cache_tokens
        self._changed = threading.Condition()
        self._waiting: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        self._stopped = False
        self._on_failure: Callable[[BaseException], None] = lambda error: None
        self._thread = threading.Thread(target=self._run, name="generation", daemon=True)

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Starts the generation thread."""
        self._on_failure = on_failure
        self._thread.start()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """Tokens as they are computed; closing the generator takes the sequence out of the batch."""
        sequence = _Sequence(
            request=request,
            loop=asyncio.get_running_loop(),
            chooser=Chooser(request, device=torch.device("cpu")),
            remaining=deque(request.prompt),
        )
        with self._changed:
            if self._stopped:
                raise EngineFailure("the generation thread has stopped")
            self._waiting.append(sequence)
            self._changed.notify()
        try:
            while (news := await sequence.arrived.get()) is not None:
                if isinstance(news, EngineFailure):
                    raise news
                yield news
        finally:
            sequence.canceled = True

    def stop(self) -> None:
        """Ends the generation thread within one step."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def active(self) -> int:
        """Sequences that run or wait."""
        with self._changed:
            return len(self._running) + len(self._waiting)

    def _run(self) -> None:
        try:
            while self._gather():
                self._deliver(self._step())
            self._end_all("the generation thread has stopped")
        except Exception as error:
            logger.exception("the generation thread broke")
            with self._changed:
                self._stopped = True
            self._end_all(str(error))
            self._on_failure(EngineFailure(str(error)))

    def _gather(self) -> bool:
        """Waits until there is something to compute and lets waiting sequences in; False = stop."""
        with self._changed:
            while True:
                for sequence in [one for one in self._running if one.canceled]:
                    self._release(sequence)
                while self._waiting and (self._waiting[0].canceled or self._has_room(self._waiting[0])):
                    sequence = self._waiting.popleft()
                    if not sequence.canceled:
                        self._admit(sequence)
                if self._stopped or self._running:
                    return not self._stopped
                self._changed.wait()

    def _has_room(self, sequence: _Sequence) -> bool:
        if len(self._running) == len(self._cache.slots):
            return False
        held = sum(_longest(one.request) for one in self._running)
        return held + _longest(sequence.request) <= self._cache_tokens or not self._running

    def _admit(self, sequence: _Sequence) -> None:
        sequence.slot, reused = self._cache.take(sequence.request.prompt)
        for _ in range(reused):
            sequence.remaining.popleft()
        self._running.append(sequence)
        # Neighboring slots are read in place.
        self._running.sort(key=lambda one: one.slot.number if one.slot else 0)

    def _release(self, sequence: _Sequence) -> None:
        self._running.remove(sequence)
        if sequence.slot is not None:
            self._cache.release(sequence.slot)

    def _step(self) -> list[tuple[_Sequence, News]]:
        """Computes once; what it brought to whom."""
        planned = self._plan()
        parts = []
        for sequence, count in planned:
            assert sequence.slot is not None
            tokens = [sequence.remaining.popleft() for _ in range(count)]
            parts.append(Part(sequence.slot.number, tokens, len(sequence.slot.tokens)))
            sequence.slot.tokens.extend(tokens)
        wanted = [index for index, (sequence, _) in enumerate(planned) if not sequence.remaining]
        observe_batch(sequences=len(parts), tokens=sum(len(part.tokens) for part in parts))
        logits = self._decoder.step(parts, cache=self._cache, wanted=wanted)
        best = logits.argmax(dim=-1).tolist() if wanted else []
        news: list[tuple[_Sequence, News]] = []
        for row, index in enumerate(wanted):
            news.extend(self._continue(planned[index][0], logits=logits[row], best=best[row]))
        return news

    def _plan(self) -> list[tuple[_Sequence, int]]:
        """Who computes how many tokens: all answers one, then prompts as far as the step has room."""
        single = [(one, 1) for one in self._running if len(one.remaining) == 1]
        room = STEP_TOKENS
        longer = []
        # The shortest first: its first token is nearest, and it delays the others least.
        for one in sorted(self._running, key=lambda one: len(one.remaining)):
            if len(one.remaining) > 1 and room > 1:
                count = min(len(one.remaining), room)
                longer.append((one, count))
                room -= count
        # A part of one token counts as an answer's, whose place is before the longer parts.
        return single + longer

    def _continue(
        self, sequence: _Sequence, *, logits: torch.Tensor, best: int
    ) -> list[tuple[_Sequence, News]]:
        try:
            token = Token(best) if sequence.chooser.is_plain else sequence.chooser.choose(logits)
        except Exception as error:
            logger.exception("a sequence cannot go on")
            with self._changed:
                self._release(sequence)
            return [(sequence, SequenceFailure(str(error)))]
        sequence.generated += 1
        sequence.remaining.append(token.id)
        if token.id in self._end_tokens or sequence.generated == sequence.request.max_tokens:
            with self._changed:
                self._release(sequence)
            return [(sequence, token), (sequence, None)]
        return [(sequence, token)]

    def _end_all(self, reason: str) -> None:
        with self._changed:
            ended = [*self._running, *self._waiting]
            self._running.clear()
            self._waiting.clear()
        self._deliver([(sequence, EngineFailure(reason)) for sequence in ended])

    def _deliver(self, news: list[tuple[_Sequence, News]]) -> None:
        """From this thread to the event loops, all of one step in one call."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Sequence, News]]] = defaultdict(list)
        for sequence, item in news:
            by_loop[sequence.loop].append((sequence, item))
        for loop, items in by_loop.items():
            loop.call_soon_threadsafe(_hand_over, items)


def _longest(request: GenerationRequest) -> int:
    return len(request.prompt) + request.max_tokens


def _hand_over(items: list[tuple[_Sequence, News]]) -> None:
    for sequence, item in items:
        sequence.arrived.put_nowait(item)
