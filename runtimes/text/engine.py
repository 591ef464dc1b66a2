"""What every text engine does, whichever library computes the tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen. The defaults change nothing."""

    temperature: float = 1.0
    """0 = always the most likely token; larger = more varied."""
    top_p: float = 1.0
    """Only the most likely tokens whose probabilities add up to this take part."""
    top_k: int = 0
    """Only this many of the most likely tokens take part; 0 = all."""
    repetition_penalty: float = 1.0
    """Divides (or multiplies, when negative) the logits of tokens in prompt and answer."""
    frequency_penalty: float = 0.0
    """Taken from a token's logit for each time it is in the answer."""
    presence_penalty: float = 0.0
    """Taken from a token's logit once when it is in the answer."""
    seed: int | None = None
    """The same seed, prompt and settings give the same answer as far as batching keeps the logits equal."""

    @property
    def is_greedy(self) -> bool:
        """Whether chance has no part. Below 1e-5 a temperature would only overflow."""
        return self.temperature < 1e-5


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One sequence to continue."""

    prompt: Sequence[int]
    """Token ids, at least one."""
    max_tokens: int
    """Most tokens to generate, at least one, so that prompt and answer fit the context."""
    sampling: Sampling = field(default_factory=Sampling)


class TextEngine(Protocol):
    """Continues many sequences at once."""

    name: str
    """As shown by /info, such as `transformers-continuous-batching`."""

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Begins to compute. `on_failure` is called from any thread, once, if the engine breaks for good."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[int, None]:
        """Token ids as they are computed, the end token included.

        Closing the generator stops the computation. Raises EngineFailure when the engine broke.
        """

    def stop(self) -> None:
        """Ends the computation; what still runs fails."""
