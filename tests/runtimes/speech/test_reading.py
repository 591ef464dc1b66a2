"""Audio as it comes, which need not be sound."""

from __future__ import annotations

import io
import struct

import numpy as np

from runtimes.speech.reading import RATE, read_audio


def float_wav(samples: np.ndarray) -> bytes:
    """A WAV file of 32-bit floats (format 3)."""
    content = samples.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, RATE, RATE * 4, 4, 32)
    chunks = (
        b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(content)) + content
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def test_what_is_no_number_is_silence_and_what_is_too_loud_is_cut() -> None:
    samples = np.full(RATE, 0.5)
    samples[[10, 20, 30, 40]] = (np.nan, np.inf, -np.inf, 3)
    heard = np.concatenate(list(read_audio(io.BytesIO(float_wav(samples)))))
    assert heard[[9, 10, 20, 30, 40]].tolist() == [0.5, 0.0, 1.0, -1.0, 1.0]
