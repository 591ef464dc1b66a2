"""From a plan in lengths to the very sequences: which indexes share a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.packing.bins import Method, PackingReport, count_lengths, plan_packs

Lengths = Sequence[int] | NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """All packs in two arrays, since a list for each of millions would take longer than to plan them."""

    order: NDArray[np.int64]
    """[sequences] indexes into the lengths; those of one pack stand together."""
    starts: NDArray[np.int64]
    """[packs + 1] where each pack begins in `order`; the last is their number."""
    report: PackingReport

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """The indexes of each pack."""
        for start, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield self.order[start:end]


def pack_lengths(
    lengths: Lengths, *, capacity: int, depth: int | None = None, method: Method = Method.BEST_FIT
) -> Packed:
    """Each index into `lengths` in exactly one pack; see `plan_packs` for what bounds a pack.

    Of equal lengths the first come first, so equal input gives equal packs. Raises ValueError.
    """
    array = np.asarray(lengths, dtype=np.int64)
    histogram = count_lengths(array)
    plan = plan_packs(histogram, capacity=capacity, depth=depth, method=method)
    # Indexes by length; a stable sort of 16-bit keys is a radix sort, several times faster than others.
    keys = array.astype(np.uint16) if len(histogram) <= 2**16 else array
    by_length = np.argsort(keys, kind="stable")
    next_of_length = np.cumsum(histogram) - histogram  # [longest + 1] the first not given away yet
    parts, sizes = [], []
    for group in plan.groups:
        columns = []
        for length in group.lengths:
            start = next_of_length[length]
            columns.append(by_length[start : start + group.count])
            next_of_length[length] += group.count
        parts.append(np.stack(columns, axis=1).reshape(-1))
        sizes.append(np.full(group.count, len(group.lengths), dtype=np.int64))
    return Packed(
        order=np.concatenate(parts) if parts else np.empty(0, dtype=np.int64),
        starts=np.concatenate(([0], np.cumsum(np.concatenate(sizes)) if sizes else [])).astype(np.int64),
        report=plan.report,
    )


def pack_rows(lengths: Lengths, *, capacity: int, depth: int | None = None) -> list[list[int]]:
    """The packs as lists, for a batch: best fit, and rows and their indexes in the order of `lengths`."""
    packed = pack_lengths(lengths, capacity=capacity, depth=depth)
    return sorted(sorted(row.tolist()) for row in packed)
