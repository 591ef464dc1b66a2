"""Draws what has queued: the oldest drawing, and with it all that can share its steps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import torch

from runtimes.batches import observe_batch
from runtimes.engine_thread import EngineThread
from runtimes.errors import EngineFailure
from runtimes.images.drawing import Begun, Drawing, Drawn, News, Step, preview_steps
from runtimes.images.pipelines import Pipelines

logger = logging.getLogger(__name__)


class _Abandoned(Exception):
    """Nobody waits for any picture of the batch any more."""


@dataclass(eq=False)
class _Item:
    drawing: Drawing
    loop: asyncio.AbstractEventLoop
    news: asyncio.Queue[News | EngineFailure] = field(default_factory=asyncio.Queue)
    abandoned: bool = False

    def tell(self, news: News | EngineFailure) -> None:
        """From any thread."""
        self.loop.call_soon_threadsafe(self.news.put_nowait, news)


class ImageEngine(EngineThread[_Item]):
    """One thread that draws."""

    what = "image engine"

    def __init__(self, pipelines: Pipelines, *, batch_pixels: int) -> None:
        """`batch_pixels`: pixels of all pictures that are drawn at once, which bounds the memory."""
        super().__init__()
        self._pipelines = pipelines
        self._batch_pixels = batch_pixels
        self._queue: list[_Item] = []

    async def draw(self, drawing: Drawing) -> AsyncGenerator[News, None]:
        """What becomes of the drawing, `Drawn` last. Closing it ends the work before the next step.

        Raises EngineFailure.
        """
        item = _Item(drawing, asyncio.get_running_loop())
        with self._adding():
            self._queue.append(item)
        try:
            while True:
                news = await item.news.get()
                if isinstance(news, EngineFailure):
                    raise news
                yield news
                if isinstance(news, Drawn):
                    return
        finally:
            item.abandoned = True

    def _take(self) -> list[_Item]:
        self._queue = [item for item in self._queue if not item.abandoned]
        if not self._queue:
            return []
        first = self._queue[0].drawing
        room = max(1, self._batch_pixels // first.pixels)
        batch = [item for item in self._queue if item.drawing.batch_key == first.batch_key][:room]
        self._queue = [item for item in self._queue if item not in batch]
        return batch

    def _compute(self, batch: list[_Item]) -> None:
        observe_batch(sequences=len(batch))
        try:
            self._draw(batch)
        except _Abandoned:
            return
        except torch.OutOfMemoryError as error:
            logger.warning("no memory for %d pictures: %s", len(batch), error)
            _fail(batch, EngineFailure("the device has no memory left for this picture"))

    def _give_up(self, batch: list[_Item], failure: EngineFailure) -> None:
        waiting, self._queue = self._queue, []
        _fail([*batch, *waiting], failure)

    def _draw(self, batch: Sequence[_Item]) -> None:
        for item in batch:
            item.tell(Begun())

        def step_done(step: int, latents: torch.Tensor) -> None:
            if all(item.abandoned for item in batch):
                raise _Abandoned
            for index, item in enumerate(batch):
                drawing = item.drawing
                preview = None
                if (
                    step in preview_steps(steps=drawing.steps, previews=drawing.previews)
                    and not item.abandoned
                ):
                    preview = self._pipelines.preview(latents[index : index + 1], drawing=drawing)
                item.tell(Step(step=step, steps=drawing.steps, preview=preview))

        results = self._pipelines.draw([item.drawing for item in batch], on_step=step_done)
        for item, (image, flagged) in zip(batch, results, strict=True):
            item.tell(Drawn(image=image, flagged=flagged))


def _fail(items: Sequence[_Item], failure: EngineFailure) -> None:
    for item in items:
        item.tell(failure)
