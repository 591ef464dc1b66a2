"""Samples as a file in one of the formats of the OpenAI protocol."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt

PCM_RATE = 24_000
"""Of the format pcm, which has no header to tell it: what the OpenAI protocol says."""


@dataclass(frozen=True)
class AudioFormat:
    """How FFmpeg's libraries write it."""

    container: str
    codec: str
    sample_format: str
    media_type: str
    rates: tuple[int, ...] = ()
    """Samples per second that the codec takes, ascending; none = any."""


FORMATS: Mapping[str, AudioFormat] = {
    "mp3": AudioFormat(
        "mp3", "libmp3lame", "s16p", "audio/mpeg", (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
    ),
    "opus": AudioFormat("ogg", "libopus", "s16", "audio/ogg", (16_000, 24_000, 48_000)),
    "aac": AudioFormat("adts", "aac", "fltp", "audio/aac", (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)),
    "flac": AudioFormat("flac", "flac", "s16", "audio/flac"),
    "wav": AudioFormat("wav", "pcm_s16le", "s16", "audio/wav"),
    "pcm": AudioFormat("s16le", "pcm_s16le", "s16", "audio/pcm", (PCM_RATE,)),
}
"""Under the names of `response_format`."""


def encode_audio(samples: npt.NDArray[np.float32], *, rate: int, format: str) -> bytes:
    """Mono samples [N] between -1 and 1 at `rate` per second as a whole file.

    A rate that the format cannot have becomes the next higher one that it can.
    """
    kind = FORMATS[format]
    wanted = next((it for it in kind.rates if it >= rate), kind.rates[-1]) if kind.rates else rate
    file = io.BytesIO()
    with av.open(file, "w", format=kind.container) as output:
        stream: Any = output.add_stream(kind.codec, rate=wanted, layout="mono", format=kind.sample_format)
        resampler = av.AudioResampler(format=kind.sample_format, layout="mono", rate=wanted)
        frame = av.AudioFrame.from_ndarray(np.clip(samples, -1, 1)[None, :], format="flt", layout="mono")
        frame.sample_rate = rate
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            piece.pts = None
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return file.getvalue()
