"""Which token was said when, from where the decoder looked.

Dynamic time warping of the attention, as in Whisper's `timing.py`: the path through (token, frame) that goes
only forward and follows the strongest looks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MEDIAN_WIDTH = 7


def warp(looks: npt.NDArray[np.float32]) -> list[int]:
    """The first frame of each token, from attention [heads, tokens, frames]."""
    deviation = looks.std(axis=-2, keepdims=True)
    normed = (looks - looks.mean(axis=-2, keepdims=True)) / np.maximum(deviation, 1e-9)
    edge = min(MEDIAN_WIDTH // 2, looks.shape[-1] - 1)
    padded = np.pad(normed, ((0, 0), (0, 0), (edge, edge)), mode="reflect")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * edge + 1, axis=-1), axis=-1)
    return _first_frames(-smooth.mean(axis=0))


def _first_frames(cost: npt.NDArray[np.float32]) -> list[int]:
    """By token, so that a step is one operation on all frames' predecessors where that is possible."""
    tokens, frames = cost.shape
    best = np.full((tokens, frames), np.inf, np.float64)
    from_token = np.zeros((tokens, frames), bool)
    best[0] = np.cumsum(cost[0])
    for token in range(1, tokens):
        # To come from the token before: at this frame or one frame earlier.
        earlier = np.concatenate(([np.inf], best[token - 1, :-1]))
        entry = np.minimum(best[token - 1], earlier) + cost[token]
        running = np.inf
        for frame in range(frames):
            stay = running + cost[token, frame]
            from_token[token, frame] = entry[frame] <= stay
            running = min(entry[frame], stay)
            best[token, frame] = running
    first = [0] * tokens
    frame = frames - 1
    for token in range(tokens - 1, 0, -1):
        while not from_token[token, frame]:
            frame -= 1
        first[token] = frame
        if frame and best[token - 1, frame - 1] <= best[token - 1, frame]:
            frame -= 1
    return first
