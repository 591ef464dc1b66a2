"""A loaded image model: what the front asks for pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from runtimes.images.drawing import Drawing
from runtimes.images.engine import ImageEngine
from runtimes.images.pipelines import Pipelines
from runtimes.images.presets import Presets, Wish, settle
from runtimes.served import ModelFacts


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """Everything needed to answer image requests."""

    facts: ModelFacts
    pipelines: Pipelines
    presets: Presets
    engine: ImageEngine
    largest_pixels: int
    """Of one picture: width times height."""

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Begins to draw."""
        self.engine.start(on_failure=on_failure)

    def stop(self) -> None:
        """Ends the computation."""
        self.engine.stop()

    async def warm_up(self) -> None:
        """Draws one picture in two steps."""
        width, height = self.pipelines.native_size
        _, guidance = settle(Wish(), style=None, presets=self.presets, pipeline=self.pipelines.defaults)
        drawing = Drawing(
            prompt="a",
            negative_prompt="",
            width=width,
            height=height,
            steps=2,
            guidance=guidance,
            seed=0,
        )
        async with aclosing(self.engine.draw(drawing)) as news:
            async for _ in news:
                pass
