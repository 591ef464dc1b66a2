"""Draws what has queued: as soon as one batch is done, the oldest drawing and all that can share its steps.

No timer: under light load a picture is drawn alone and at once; under heavy load the queue fills while a
batch is drawn, and the next batch is larger.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

import torch

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


class ImageEngine:
    """One thread that draws."""

    def __init__(self, pipelines: Pipelines, *, batch_pixels: int) -> None:
        """`batch_pixels`: pixels of all pictures that are drawn at once, which bounds the memory."""
        self._pipelines = pipelines
        self._batch_pixels = batch_pixels
        self._queue: list[_Item] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Starts the thread. `on_failure` is called when it breaks for good."""
        self._thread = threading.Thread(target=self._run, args=(on_failure,), name="images", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the batch it is computing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    async def draw(self, drawing: Drawing) -> AsyncGenerator[News, None]:
        """What becomes of the drawing, `Drawn` last. Closing it ends the work before the next step.

        Raises EngineFailure.
        """
        item = _Item(drawing, asyncio.get_running_loop())
        with self._changed:
            if self._stopping:
                raise EngineFailure("the image engine has stopped")
            self._queue.append(item)
            self._changed.notify()
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

    def _run(self, on_failure: Callable[[BaseException], None]) -> None:
        batch: list[_Item] = []
        try:
            while batch := self._take():
                try:
                    self._draw(batch)
                except _Abandoned:
                    continue
                except torch.OutOfMemoryError as error:
                    logger.warning("no memory for %d pictures: %s", len(batch), error)
                    _fail(batch, EngineFailure("the device has no memory left for this picture"))
        except Exception as error:
            failure = EngineFailure(f"the image engine failed: {error}")
            with self._changed:
                self._stopping = True
                waiting, self._queue = self._queue, []
            _fail([*batch, *waiting], failure)
            on_failure(failure)

    def _take(self) -> list[_Item]:
        """The oldest drawing and all that can share its steps; waits for one. Empty when stopping."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._stopping)
                if self._stopping:
                    return []
                self._queue = [item for item in self._queue if not item.abandoned]
                if self._queue:
                    break
            first = self._queue[0].drawing
            room = max(1, self._batch_pixels // first.pixels)
            batch = [item for item in self._queue if item.drawing.batch_key == first.batch_key][:room]
            self._queue = [item for item in self._queue if item not in batch]
            return batch

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
