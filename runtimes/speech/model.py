"""A speech model that is being served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from runtimes.served import ModelFacts
from runtimes.speech.engine import Job, SpeechEngine
from runtimes.speech.reading import RATE
from runtimes.speech.transcription import Transcriber
from runtimes.speech.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class SpeechModel:
    """Everything needed to answer transcription requests."""

    facts: ModelFacts
    vocabulary: Vocabulary
    engine: SpeechEngine
    transcriber: Transcriber

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Begins to compute."""
        self.engine.start(on_failure=on_failure)

    def stop(self) -> None:
        """Ends the computation."""
        self.engine.stop()

    async def warm_up(self) -> None:
        """Hears a second of a tone."""
        tone = np.sin(np.arange(RATE, dtype=np.float32) * (2 * np.pi * 440 / RATE)) / 2
        language = next(iter(self.vocabulary.languages), None)
        await self.engine.hear(
            Job(
                samples=tone.astype(np.float32),
                language=language,
                task="transcribe",
                timestamps=True,
                words=True,
            )
        )
