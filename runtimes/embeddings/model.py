"""An encoder that is being served."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from runtimes.embeddings.engine import EncoderEngine
from runtimes.embeddings.inputs import InputReader
from runtimes.served import ModelFacts


@dataclass(frozen=True, kw_only=True)
class EmbeddingModel:
    """Everything needed to answer embeddings requests."""

    facts: ModelFacts
    inputs: InputReader
    engine: EncoderEngine
    dimensions: int
    """Length of a vector."""
    shorter_dimensions: Collection[int]
    """Lengths it may be cut to."""

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Begins to compute."""
        self.engine.start(on_failure=on_failure)

    def stop(self) -> None:
        """Ends the computation."""
        self.engine.stop()

    async def warm_up(self) -> None:
        """Encodes one sentence."""
        await self.engine.encode(await self.inputs.read(["Hello"]))
