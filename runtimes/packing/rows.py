"""Several sequences in one row, so that short ones waste no computation on padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack_rows(lengths: Sequence[int], *, capacity: int) -> list[list[int]]:
    """Indexes into `lengths`, each in exactly one row; a row's lengths add up to at most `capacity`.

    Best-fit decreasing: the longest first, each into the fullest row that still has room. Needs at most 11/9
    of the fewest rows possible (Johnson 1973). A sequence longer than `capacity` has a row of its own.
    Rows and the indexes within them come in the order of `lengths`, so equal input gives equal rows.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        place = bisect_left(room, (lengths[index], -1))
        if place == len(room):
            left, row = capacity, len(rows)
            rows.append([])
        else:
            left, row = room.pop(place)
        rows[row].append(index)
        if left > lengths[index]:
            insort(room, (left - lengths[index], row))
    return sorted(sorted(row) for row in rows)
