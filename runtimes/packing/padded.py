"""Batches of similar lengths: sorted, then cut so that each padded rectangle stays within a budget of
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Indexes into `lengths`, each in exactly one batch.

    A batch computes `longest x rows` tokens, padding included, at most `max_tokens`; a sequence longer than
    that is a batch of its own. Sorting first keeps the padding small: neighbors have nearly the same
    length.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    batches: list[list[int]] = []
    for index in order:
        # The first of a batch is its longest.
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
