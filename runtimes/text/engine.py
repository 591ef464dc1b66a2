"""What every text engine does, whichever library computes the tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    # Only for the annotation: the front reads this module before torch is imported.
    import torch


class Feature(StrEnum):
    """What an engine may or may not be able to do beyond choosing by temperature, top_p and top_k."""

    SEED = "seed"
    PENALTIES = "penalties"
    """Frequency, presence and repetition."""
    MIN_P = "min_p"
    LOGPROBS = "logprobs"
    LOGIT_BIAS = "logit_bias"
    CONSTRAINT = "constraint"
    ADAPTERS = "adapters"
    """Several LoRA adapters beside one base, chosen by the request."""


EVERY_CHOICE = frozenset(Feature) - {Feature.ADAPTERS}
"""What an engine can do that chooses by `runtimes.text.sampling`."""


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
    min_p: float = 0.0
    """Only tokens at least this share as likely as the most likely one take part, after temperature."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token id -> what is added to its logit before anything else."""
    logprobs: int | None = None
    """How many of the most likely tokens to tell with each token; 0 = only the chosen one, None = nothing."""

    @property
    def is_greedy(self) -> bool:
        """Whether chance has no part. Below 1e-5 a temperature would only overflow."""
        return self.temperature < 1e-5


class Token(NamedTuple):
    """One token of an answer."""

    id: int
    logprob: float | None = None
    """Natural logarithm of its probability as the model has it, before bias, penalties, temperature and
    constraint; None when it was not asked for.
    """
    top: Sequence[tuple[int, float]] = ()
    """The most likely (token id, logprob) at its place, as many as asked for, the most likely first."""


class Constraint(Protocol):
    """What one answer must look like, token by token, such as a JSON schema.

    One object for each sequence, called from the engine's thread only. An exception ends this sequence with
    a SequenceFailure and no other.
    """

    def allowed(self) -> torch.Tensor | None:
        """Which tokens may come next: bool [vocabulary] with at least one True, on the CPU; None = all.

        Tokens past its end, which some models have as padding, may not.
        """

    def accept(self, token: int) -> None:
        """The token that was chosen, the end token included."""


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One sequence to continue."""

    prompt: Sequence[int]
    """Token ids, at least one."""
    max_tokens: int
    """Most tokens to generate, at least one, so that prompt and answer fit the context."""
    sampling: Sampling = field(default_factory=Sampling)
    constraint: Constraint | None = None
    adapter: str | None = None
    """Name of a loaded LoRA adapter; None = the base, or what the deployment itself adds to it."""


class TextEngine(Protocol):
    """Continues many sequences at once."""

    name: str
    """As shown by /info, such as `transformers-continuous-batching`."""
    supports: frozenset[Feature]
    """A request that needs anything else must not be given to it."""

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Begins to compute. `on_failure` is called from any thread, once, if the engine breaks for good."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """Tokens as they are computed, the end token included.

        Closing the generator stops the computation. Raises EngineFailure when the engine broke and
        SequenceFailure when only this sequence cannot go on.
        """

    def stop(self) -> None:
        """Ends the computation; what still runs fails."""
