"""What the front needs to know about a model it serves, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from runtimes.contract import Task


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What /info tells about a loaded model."""

    task: Task
    engine: str
    device: str
    """For people: product, cores or memory."""
    dtype: str
    parameters: int
    context_length: int
    """Most tokens of prompt plus answer, or of one input of an encoder."""
    predicted_bytes: int
    """Memory that loading and serving were predicted to take."""
    packing: Mapping[str, Any] | None = None
    """How sequences of different lengths are computed together, and why; None = as the engine does anyway."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Tokens a second of each engine that was tried at start, when there was a choice."""


class ServedModel(Protocol):
    """A loaded model."""

    @property
    def facts(self) -> ModelFacts: ...

    async def warm_up(self) -> None:
        """Answers one real request, so that the first customer does not pay for what is slow only once."""

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Begins to compute; `on_failure` is called when the engine breaks for good."""

    def stop(self) -> None:
        """Ends the computation."""
