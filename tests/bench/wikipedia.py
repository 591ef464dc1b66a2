"""Lengths like those of Wikipedia cut for BERT's pre-training, in tokens of at most 512.

Shares read off the histogram of 16 million sequences that Graphcore published with arXiv 2107.02027
(graphcore/examples, tutorials/blogs_code/packedBERT): half of what is computed without packing is padding,
nearly a quarter of the sequences are full.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LONGEST = 512
FULL = 0.2343
"""Share of the sequences that have all 512 tokens."""
KNOTS = {
    5: 1.8, 16: 16.5, 24: 30.7, 32: 55.4, 48: 74.5, 64: 69.4, 80: 57.0, 96: 46.5, 128: 34.8,
    192: 23.9, 256: 18.6, 320: 15.3, 384: 12.8, 448: 11.0, 511: 9.2,
}  # fmt: skip
"""Length -> sequences of exactly that many tokens, in thousands; straight lines between them."""


def draw_lengths(count: int, *, seed: int = 0) -> NDArray[np.int64]:
    """So many lengths, [count]."""
    lengths = np.arange(min(KNOTS), LONGEST)
    shares = np.interp(lengths, list(KNOTS), list(KNOTS.values()))
    probabilities = np.append(shares / shares.sum() * (1 - FULL), FULL)
    return np.random.default_rng(seed).choice(np.append(lengths, LONGEST), size=count, p=probabilities)
