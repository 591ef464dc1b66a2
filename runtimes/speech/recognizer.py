"""What an engine that hears must be able to do, and what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
"""[B, mel bands, frames]: 100 frames a second."""


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """What one row was taken for."""

    tokens: tuple[int, ...]
    """Without the prompt and without the end."""
    average_logprob: float
    """Natural logarithm, per token, the end included."""
    no_speech_probability: float


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What was heard in a window."""

    tokens: tuple[int, ...]
    language: str
    language_probability: float
    """1.0 when the caller named the language."""
    average_logprob: float
    no_speech_probability: float
    compression_ratio: float
    temperature: float
    """The one that was used in the end."""
    times: tuple[float, ...] | None = None
    """Seconds at which each text token begins, and at last the one at which the text ends."""


class Recognizer(Protocol):
    """A model on a device. Called from one thread; `encoded` is whatever `encode` returns."""

    name: str
    dtype: str

    def encode(self, features: Features) -> Any:
        """Hears the rows."""

    def select(self, encoded: Any, rows: Sequence[int]) -> Any:
        """These rows of what was heard."""

    def detect(self, encoded: Any) -> list[tuple[str, float]]:
        """For each row the code of the likeliest language, and its probability."""

    def decode(
        self, encoded: Any, *, prompts: Sequence[Sequence[int]], temperature: float, max_tokens: int
    ) -> list[Hypothesis]:
        """For each row what was said. All prompts are equally long, and all or none have timestamps."""

    def align(
        self, encoded: Any, *, sequence: Sequence[int], tokens: Sequence[Sequence[int]], frames: Sequence[int]
    ) -> list[tuple[float, ...]]:
        """For each row when its tokens begin, in seconds, and when the last one ends."""
