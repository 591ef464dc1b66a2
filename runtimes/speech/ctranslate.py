"""Whisper by CTranslate2: int8 on CPUs, several times the speed of float32 in torch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.converters import TransformersConverter

from runtimes.speech.recognizer import Features, Hypothesis

FRAMES_PER_SECOND = 50
"""Of what the encoder returns."""


BEAM = 5
"""Hypotheses followed at once, as faster-whisper does by default. With a shortened window it costs little
beside the encoder: 7.0 s of CPU instead of 6.2 for 20 clips, word error rate 0.25 instead of 0.31."""


class CTranslateRecognizer:
    """A Whisper folder, converted when it is loaded: the weights that were verified are those in use."""

    name = "ctranslate2-whisper"

    def __init__(self, folder: Path, *, dtype: str, threads: int, positions: int) -> None:
        """`positions`: the most tokens of prompt and answer together."""
        self.dtype = dtype
        self._positions = positions
        with tempfile.TemporaryDirectory(prefix="whisper-") as work:
            converted = str(Path(work) / "model")
            TransformersConverter(str(folder)).convert(converted, quantization=dtype)
            self._model = ctranslate2.models.Whisper(
                converted, device="cpu", compute_type=dtype, intra_threads=threads, inter_threads=1
            )

    def encode(self, features: Features) -> Any:
        return self._model.encode(
            ctranslate2.StorageView.from_array(np.ascontiguousarray(features)), to_cpu=True
        )

    def select(self, encoded: Any, rows: Sequence[int]) -> Any:
        if list(rows) == list(range(encoded.shape[0])):
            return encoded
        return ctranslate2.StorageView.from_array(np.ascontiguousarray(np.array(encoded)[list(rows)]))

    def detect(self, encoded: Any) -> list[tuple[str, float]]:
        return [
            (token.strip("<|>"), float(probability))
            for (token, probability), *_ in self._model.detect_language(encoded)
        ]

    def decode(
        self, encoded: Any, *, prompts: Sequence[Sequence[int]], temperature: float, max_tokens: int
    ) -> list[Hypothesis]:
        results = self._model.generate(
            encoded,
            [list(prompt) for prompt in prompts],
            # Sampling has no beam.
            beam_size=1 if temperature else BEAM,
            sampling_topk=0 if temperature else 1,
            sampling_temperature=temperature or 1.0,
            # An answer has at most half of this, and no more than the prompt leaves of it.
            max_length=min(self._positions, max(2 * max_tokens, len(prompts[0]) + max_tokens)),
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [
            Hypothesis(
                tokens=tuple(result.sequences_ids[0]),
                # The score is divided by the number of tokens, to which the end does not count.
                average_logprob=float(result.scores[0])
                * len(result.sequences_ids[0])
                / (len(result.sequences_ids[0]) + 1),
                no_speech_probability=float(result.no_speech_prob),
            )
            for result in results
        ]

    def align(
        self, encoded: Any, *, sequence: Sequence[int], tokens: Sequence[Sequence[int]], frames: Sequence[int]
    ) -> list[tuple[float, ...]]:
        results = self._model.align(encoded, list(sequence), [list(row) for row in tokens], list(frames))
        return [_times(result.alignments) for result in results]


def _times(alignments: Sequence[tuple[int, int]]) -> tuple[float, ...]:
    """The path goes through (token, frame); a token begins at the first frame it meets."""
    begins: dict[int, int] = {}
    for token, frame in alignments:
        begins.setdefault(token, frame)
    return tuple(begins[token] / FRAMES_PER_SECOND for token in sorted(begins))
