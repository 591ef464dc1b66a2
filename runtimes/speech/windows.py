"""Long audio as windows that Whisper can hear, each cut where it is quietest.

Windows are independent of each other, so that those of one recording are computed together, and with those of
other requests. A cut in a pause loses no word; Whisper's own way, to begin each window where the last one's
text ended, hears one window after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from runtimes.speech.reading import RATE, Samples

LONGEST_SECONDS = 30.0
"""What the model hears at once."""
SHORTEST_SECONDS = 20.0
"""No cut before that: the pause is looked for in the rest of the window."""
SILENCE = 1e-3
"""Samples that stay below it (-60 dB of full scale) are nothing that anybody can hear."""
_FRAME = RATE // 50
_SMOOTH = 15  # frames: 0.3 s, shorter than a pause and longer than a stop consonant


@dataclass(frozen=True, kw_only=True)
class Window:
    """A piece of a recording."""

    start: float
    """Seconds from the beginning."""
    samples: Samples

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    @property
    def silent(self) -> bool:
        return not len(self.samples) or float(np.abs(self.samples).max()) < SILENCE


def cut_windows(pieces: Iterable[Samples]) -> Iterator[Window]:
    """Windows without gaps; together they are the whole recording. One empty window if there is none."""
    longest = int(LONGEST_SECONDS * RATE)
    start, held = 0, np.zeros(0, np.float32)
    waiting: list[Samples] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += len(piece)
        if count <= longest:
            continue
        held, waiting = np.concatenate(waiting), []
        while len(held) > longest:
            end = quietest(held[:longest])
            yield Window(start=start / RATE, samples=held[:end])
            start, held = start + end, held[end:]
        waiting, count = [held], len(held)
    rest = np.concatenate(waiting) if waiting else held
    if len(rest) or start == 0:
        yield Window(start=start / RATE, samples=rest)


def quietest(samples: Samples) -> int:
    """Where to cut: the middle of the quietest 0.3 s after `SHORTEST_SECONDS`, the last of equals."""
    first = int(SHORTEST_SECONDS * RATE)
    frames = (len(samples) - first) // _FRAME
    energy = (samples[first : first + frames * _FRAME].reshape(frames, _FRAME) ** 2).mean(axis=1)
    smooth = np.convolve(energy, np.ones(_SMOOTH), mode="valid")
    last = len(smooth) - 1 - int(np.argmin(smooth[::-1]))
    return first + (last + _SMOOTH // 2) * _FRAME
