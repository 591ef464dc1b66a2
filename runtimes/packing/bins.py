"""Bin packing of lengths: which lengths share a pack, decided on their histogram.

A corpus has millions of sequences but only as many different lengths as a pack has tokens, so packs are
planned in groups of equal content and the work does not grow with the corpus. (The idea of histogram
packing, and shortest-pack-first, are from Krell et al., "Efficient Sequence Packing without
Cross-contamination", arXiv 2107.02027.)
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


class Method(StrEnum):
    """How a pack is chosen; both take the longest sequences first."""

    BEST_FIT = "best-fit-decreasing"
    """The fullest pack that still has room. Needs at most 11/9 of the fewest packs possible (Johnson 1973)
    as long as depth does not bind. Loses with a small depth, which short ones use up."""
    SHORTEST_PACK_FIRST = "shortest-pack-first"
    """The emptiest pack, when it has room; else all that are left of a length begin packs of their own, which
    shorter ones then fill. Keeps packs even in their number of sequences."""


@dataclass(frozen=True)
class PackGroup:
    """Packs of equal content."""

    count: int
    lengths: tuple[int, ...]
    """From long to short."""


@dataclass(frozen=True, kw_only=True)
class PackingReport:
    """What a plan is worth. All figures count real tokens, none of padding."""

    sequences: int
    packs: int
    tokens: int
    capacity: int

    @property
    def efficiency(self) -> float:
        """Share of the computed tokens that are real; 1 = no padding. 1 for nothing at all."""
        return self.tokens / (self.packs * self.capacity) if self.packs else 1.0

    @property
    def speed_up(self) -> float:
        """Rows computed without packing, one sequence in each, for every row computed now."""
        return self.sequences / self.packs if self.packs else 1.0

    @property
    def speed_up_limit(self) -> float:
        """The speed-up of packs without any padding: capacity over mean length."""
        return self.capacity * self.sequences / self.tokens if self.tokens else 1.0


@dataclass(frozen=True, kw_only=True)
class PackingPlan:
    """Groups of packs that hold a histogram."""

    groups: tuple[PackGroup, ...]
    capacity: int

    @property
    def report(self) -> PackingReport:
        return PackingReport(
            sequences=sum(group.count * len(group.lengths) for group in self.groups),
            packs=sum(group.count for group in self.groups),
            tokens=sum(group.count * sum(group.lengths) for group in self.groups),
            capacity=self.capacity,
        )


def count_lengths(lengths: Sequence[int] | NDArray[np.integer]) -> Counts:
    """How many sequences have each length: [longest + 1]. Raises ValueError for a length below 1."""
    array = np.asarray(lengths, dtype=np.int64)
    if array.size and array.min() < 1:
        raise ValueError(f"a length is {array.min()}; each sequence has at least 1 token")
    return np.bincount(array, minlength=1)


def plan_packs(
    histogram: Sequence[int] | Counts,
    *,
    capacity: int,
    depth: int | None = None,
    method: Method = Method.BEST_FIT,
) -> PackingPlan:
    """Packs of at most `capacity` tokens and `depth` sequences (None = any number).

    `histogram[n]` is the number of sequences of n tokens. A sequence longer than `capacity` is a pack of its
    own, since whether to cut it is not decided here. Raises ValueError for a capacity or depth below 1.
    """
    if capacity < 1 or (depth is not None and depth < 1):
        raise ValueError(f"capacity={capacity} and depth={depth} must be at least 1")
    packs = _OpenPacks(capacity=capacity, depth=depth or capacity)
    place = _PLACERS[method]
    for length in range(len(histogram) - 1, 0, -1):
        count = int(histogram[length])
        if count and length > capacity:
            packs.close(count, (length,))
        elif count:
            place(packs, length, count)
    return PackingPlan(groups=packs.finish(), capacity=capacity)


class _OpenPacks:
    """Packs that have room, by how much: room in tokens -> groups, the last of which is taken first."""

    def __init__(self, *, capacity: int, depth: int) -> None:
        self.capacity = capacity
        self.depth = depth
        self.rooms: list[int] = []  # sorted keys of `_groups`
        self._groups: dict[int, list[tuple[int, tuple[int, ...]]]] = defaultdict(list)
        self._closed: dict[tuple[int, ...], int] = defaultdict(int)

    def take(self, room: int) -> tuple[int, tuple[int, ...]]:
        """The packs of one group with that much room, no longer in here."""
        groups = self._groups[room]
        taken = groups.pop()
        if not groups:
            del self._groups[room]
            self.rooms.pop(bisect_left(self.rooms, room))
        return taken

    def put(self, count: int, lengths: tuple[int, ...]) -> None:
        """Back into the open ones, unless they are full in tokens or sequences."""
        room = self.capacity - sum(lengths)
        if not count:
            return
        if room < 1 or len(lengths) >= self.depth:
            self.close(count, lengths)
            return
        if room not in self._groups:
            insort(self.rooms, room)
        self._groups[room].append((count, lengths))

    def close(self, count: int, lengths: tuple[int, ...]) -> None:
        self._closed[lengths] += count

    def finish(self) -> tuple[PackGroup, ...]:
        for groups in self._groups.values():
            for count, lengths in groups:
                self.close(count, lengths)
        return tuple(PackGroup(count, lengths) for lengths, count in sorted(self._closed.items()))


def _place_best_fit(packs: _OpenPacks, length: int, count: int) -> None:
    while count:
        place = bisect_left(packs.rooms, length)
        # A new pack is the loosest fit of all.
        group, held = packs.take(packs.rooms[place]) if place < len(packs.rooms) else (count, ())
        # What has just been filled is the tightest fit for the next of the same length, as nothing tighter
        # was there: so each pack takes as many as it can before the next one is touched.
        room = packs.capacity - sum(held)
        each = min(room // length, packs.depth - len(held))
        whole = min(group, count // each)
        rest = min(count - whole * each, each) if whole < group else 0
        packs.put(whole, held + (length,) * each)
        packs.put(1 if rest else 0, held + (length,) * rest)
        if held:
            packs.put(group - whole - (1 if rest else 0), held)
        count -= whole * each + rest


def _place_in_emptiest(packs: _OpenPacks, length: int, count: int) -> None:
    while count:
        if packs.rooms and packs.rooms[-1] >= length:
            group, held = packs.take(packs.rooms[-1])
        else:
            group, held = count, ()
        used = min(group, count)
        packs.put(used, (*held, length))
        packs.put(group - used, held)
        count -= used


_PLACERS: Mapping[Method, Callable[[_OpenPacks, int, int], None]] = {
    Method.BEST_FIT: _place_best_fit,
    Method.SHORTEST_PACK_FIRST: _place_in_emptiest,
}
