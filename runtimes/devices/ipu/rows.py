"""Texts packed into rows of one fixed shape, since a program for the IPU is compiled for one shape. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.packing.rows import pack_rows


@dataclass(frozen=True, kw_only=True)
class RowShape:
    """What the program was compiled for."""

    rows: int
    tokens: int
    """In one row."""
    segments: int
    """Most texts in one row."""


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """One batch. All arrays are [rows, tokens]; what is left of a row has segment 0."""

    ids: NDArray[np.int32]
    positions: NDArray[np.int32]
    """Within the segment, from 0."""
    segments: NDArray[np.int32]
    """From 1, in the order of `members`."""
    members: list[list[int]]
    """For each row the indexes of its texts."""


def pack_batches(texts: Sequence[Sequence[int]], *, shape: RowShape) -> Iterator[PackedRows]:
    """Batches that hold each text once, none longer than a row."""
    packed = pack_rows([len(text) for text in texts], capacity=shape.tokens)
    rows = [row[at : at + shape.segments] for row in packed for at in range(0, len(row), shape.segments)]
    for begin in range(0, len(rows), shape.rows):
        yield _fill(rows[begin : begin + shape.rows], texts=texts, shape=shape)


def _fill(members: list[list[int]], *, texts: Sequence[Sequence[int]], shape: RowShape) -> PackedRows:
    ids, positions, segments = (np.zeros((shape.rows, shape.tokens), dtype=np.int32) for _ in range(3))
    for row, indexes in enumerate(members):
        at = 0
        for number, index in enumerate(indexes, start=1):
            end = at + len(texts[index])
            ids[row, at:end] = texts[index]
            positions[row, at:end] = np.arange(end - at)
            segments[row, at:end] = number
            at = end
    return PackedRows(ids=ids, positions=positions, segments=segments, members=members)
