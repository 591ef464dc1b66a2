"""Stretches of a replica's life, and how they are cut, joined and checked. Pure: no clock, no database.

A stretch is half-open: its end is the next one's start, so that neighbors neither overlap nor leave a moment
out. What is true of one replica's stretches is that they tile its life; `gaps` says where they do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Stretch:
    """Part of one replica's life with one phase and one who pays. Times are timezone-aware."""

    phase: str
    """A `UsagePhase` value."""
    cause: str
    """A `UsageCause` value."""
    start: datetime
    end: datetime
    """Not part of the stretch."""

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("end", self.end)):
            if value.tzinfo is None:
                raise ValueError(f"{name} of a stretch has no timezone: {value.isoformat()}")
        if self.end < self.start:
            raise ValueError(
                f"a stretch ends ({self.end.isoformat()}) before it starts ({self.start.isoformat()})"
            )

    @property
    def duration(self) -> timedelta:
        return self.end - self.start


@dataclass(frozen=True, order=True)
class Gap:
    """Time that should have been covered and is not."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        seconds = (self.end - self.start).total_seconds()
        return f"{self.start.isoformat()} to {self.end.isoformat()} ({seconds:g} s)"


class Overlap(ValueError):
    """Two stretches of one replica cover the same moment but tell different stories about it."""


def cut(stretches: Iterable[Stretch], *, at: Iterable[datetime]) -> list[Stretch]:
    """The same time, with a cut at each of the moments that falls inside a stretch."""
    moments = sorted(set(at))
    pieces = []
    for stretch in stretches:
        start = stretch.start
        for moment in moments:
            if start < moment < stretch.end:
                pieces.append(replace(stretch, start=start, end=moment))
                start = moment
        pieces.append(replace(stretch, start=start))
    return pieces


def clip(stretches: Iterable[Stretch], *, start: datetime | None, end: datetime | None) -> list[Stretch]:
    """The part within [start, end); None leaves that side open."""
    kept = []
    for stretch in stretches:
        first = max(stretch.start, start) if start else stretch.start
        last = min(stretch.end, end) if end else stretch.end
        if first < last:
            kept.append(replace(stretch, start=first, end=last))
    return kept


def missing(stretches: Iterable[Stretch], *, recorded: Iterable[Stretch]) -> list[Stretch]:
    """The parts of `stretches` that `recorded` does not hold yet, in order of time.

    Raises Overlap where both cover a moment but differ in phase or cause: history does not change, so one
    of the two was derived from something else than facts.
    """
    known = sorted(recorded, key=lambda stretch: stretch.start)
    new: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda stretch: stretch.start):
        start = stretch.start
        for other in known:
            if other.end <= start or other.start >= stretch.end:
                continue
            if (other.phase, other.cause) != (stretch.phase, stretch.cause):
                raise Overlap(
                    f"{max(other.start, start).isoformat()} is recorded as {other.phase}/{other.cause} "
                    f"and cannot become {stretch.phase}/{stretch.cause}"
                )
            if start < other.start:
                new.append(replace(stretch, start=start, end=other.start))
            start = max(start, other.end)
        if start < stretch.end:
            new.append(replace(stretch, start=start))
    return new


def gaps(
    stretches: Sequence[Stretch], *, start: datetime | None = None, end: datetime | None = None
) -> list[Gap]:
    """Where the stretches of one replica leave time out, between its first and last moment.

    `start` and `end` widen what must be covered, for a replica whose whole life is known.
    """
    ordered = sorted(stretches, key=lambda stretch: stretch.start)
    found = []
    covered = start if start else (ordered[0].start if ordered else None)
    for stretch in ordered:
        if covered is not None and stretch.start > covered:
            found.append(Gap(covered, stretch.start))
        covered = stretch.end if covered is None else max(covered, stretch.end)
    if end is not None and covered is not None and covered < end:
        found.append(Gap(covered, end))
    return found
