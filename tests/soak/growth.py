"""Whether memory grows: the slope of what was seen after the warm-up. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MEBIBYTE = 2**20
MOST_PER_MINUTE = 2 * MEBIBYTE
"""Bytes. What a server may seem to grow in a minute. A leak of 4 KiB a request, which is one small answer
kept forever, is this much at the ten requests a second that two cores answer and refuse."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The line through the samples."""

    first: float
    """Bytes where the line begins."""
    per_minute: float
    minutes: float

    @property
    def is_leak(self) -> bool:
        return self.per_minute > MOST_PER_MINUTE


def growth_of(samples: Sequence[tuple[float, int]]) -> Growth:
    """The growth over (seconds, resident bytes) samples, at least three.

    The slope is the median of the slopes between the samples of the first third and their counterparts in
    the last third, so that one large request that comes late does not look like a leak (Theil and Sen's
    estimator, over the pairs that are far apart).
    """
    third = len(samples) // 3
    if third < 1:
        raise ValueError(f"{len(samples)} samples are too few to see growth")
    pairs = zip(samples[:third], samples[-third:], strict=True)
    slopes = [(after - before) / (later - earlier) for (earlier, before), (later, after) in pairs]
    return Growth(
        first=statistics.median(size for _, size in samples[:third]),
        per_minute=60 * statistics.median(slopes),
        minutes=(samples[-1][0] - samples[0][0]) / 60,
    )
