"""Any audio file as mono samples, a piece at a time, so that hours of audio take no more memory than seconds.

FFmpeg's libraries read it (PyAV). Only formats that hold sound themselves are opened: a playlist could name
other files, or addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

RATE = 16_000
"""Samples per second, as Whisper hears them."""
MAX_SECONDS = 4 * 3600.0
"""Longest audio of one request."""
_FORMATS = "wav,w64,aiff,flac,mp3,aac,ogg,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,caf"


class NotAudio(ValueError):
    """The file has no sound that can be read. The message says why, without the file's name."""


def read_audio(file: BinaryIO) -> Iterator[Samples]:
    """Pieces of [N] samples between -1 and 1 at `RATE`. Raises NotAudio, at the first piece or later."""
    try:
        with av.open(file, mode="r", metadata_errors="ignore", options={"format_whitelist": _FORMATS}) as it:
            if not it.streams.audio:
                raise NotAudio("it has no audio track")
            yield from _resample(it)
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, NotAudio):
            raise
        raise NotAudio("it cannot be read as audio, or is damaged") from error


def _resample(container: av.container.InputContainer) -> Iterator[Samples]:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    total = 0
    for frame in container.decode(audio=0):
        for piece in resampler.resample(frame):
            samples = _sound(piece)
            total += len(samples)
            if total > MAX_SECONDS * RATE:
                raise NotAudio(f"it is longer than {MAX_SECONDS / 3600:g} hours; split it")
            yield samples
    for piece in resampler.resample(None):
        yield _sound(piece)


def _sound(piece: av.AudioFrame) -> Samples:
    """A file of floats may hold what is no number, of which a model would make no number either."""
    samples = piece.to_ndarray().reshape(-1).astype(np.float32, copy=False)
    return np.clip(np.nan_to_num(samples, posinf=1.0, neginf=-1.0), -1.0, 1.0)
