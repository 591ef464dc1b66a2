"""Which examples each optimizer step learns from, in which rows, and how fast. Pure.

Everything follows from the lengths, the hyperparameters and the seed, so a run that continues from a
checkpoint takes exactly the steps that are left.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtimes.packing.rows import pack_rows

WARM_UP_SHARE = 0.1
"""Of all steps. Adam's first steps are long, and a small model does not recover from them."""


@dataclass(frozen=True)
class Step:
    """One optimizer step."""

    rows: tuple[tuple[int, ...], ...]
    """Indexes of examples; the examples of a row are computed together."""
    tokens: int

    @property
    def examples(self) -> int:
        return sum(len(row) for row in self.rows)


def plan_steps(
    lengths: Sequence[int], *, epochs: int, batch_tokens: int, row_tokens: int, seed: int
) -> list[Step]:
    """All steps of a run, each of at most `batch_tokens` tokens in rows of at most `row_tokens`.

    Each epoch has every example once, in an order of its own. An example longer than a limit is alone.
    """
    steps = []
    for epoch in range(epochs):
        order = list(range(len(lengths)))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        for batch in _batches(order, lengths, batch_tokens):
            rows = pack_rows([lengths[index] for index in batch], capacity=row_tokens)
            steps.append(
                Step(
                    rows=tuple(tuple(batch[index] for index in row) for row in rows),
                    tokens=sum(lengths[index] for index in batch),
                )
            )
    return steps


def _batches(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    batch: list[int] = []
    tokens = 0
    for index in order:
        if batch and tokens + lengths[index] > batch_tokens:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def learning_rate_at(step: int, *, total_steps: int, peak: float) -> float:
    """The rate of step `step` (from 1): linear warm-up, then half a cosine down to a tenth of the peak.

    The cosine is that of Loshchilov and Hutter (2017), https://arxiv.org/abs/1608.03983.
    """
    warm_up = math.ceil(total_steps * WARM_UP_SHARE)
    if step < warm_up:
        return peak * step / warm_up
    share = (step - warm_up) / max(1, total_steps - warm_up)
    return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


def hold_out(count: int, *, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Splits `count` examples at random into those to train on and those to validate with.

    At least one of each as long as share > 0 and there are two.
    """
    if share <= 0 or count < 2:
        return list(range(count)), []
    order = list(range(count))
    random.Random(f"{seed}/held out").shuffle(order)
    held = min(count - 1, max(1, round(count * share)))
    return sorted(order[held:]), sorted(order[:held])
