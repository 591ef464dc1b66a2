"""Decides how much room a version needs in the cache and what may go for it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

GRACE_SECONDS = 600.0
"""How long after its last use a version stays, whatever the need: longer than Kubernetes' longest pause
(300 s) before it starts a container again, which does not run the init container again."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A version that the cache holds, whole or in part."""

    digest: str
    bytes: int
    last_used: float
    """Seconds, by the clock of the file system."""
    is_whole: bool = True


@dataclass(frozen=True, kw_only=True)
class Room:
    """The space of the cache's file system, in bytes."""

    total: int
    free: int
    reserved: int
    """What others that are bringing versions have yet to write."""
    needed: int
    free_share: float
    """Part of `total` that has to be free in the end."""

    @property
    def goal(self) -> int:
        """What has to stay free."""
        return int(self.total * self.free_share)

    @property
    def missing(self) -> int:
        """How much has to be removed before the needed bytes can be written; 0 = there is room."""
        return max(0, self.needed + self.reserved + self.goal - self.free)

    def __str__(self) -> str:
        """The numbers, for people."""
        others = f", {gib(self.reserved)} of it promised to versions on their way" if self.reserved else ""
        return (
            f"{gib(self.needed)} are needed and {gib(self.goal)} ({self.free_share:.0%} of "
            f"{gib(self.total)}) have to stay free, but {gib(self.free)} are free{others}"
        )


def removal_order(
    kept: Iterable[Kept], *, needed: Collection[str], now: float, grace: float = GRACE_SECONDS
) -> list[Kept]:
    """What may be removed, least recently used first. `needed` are the pod's own versions.

    Whether one is in use right now shows when its lock is asked for.
    """
    old = (it for it in kept if it.digest not in needed and now - it.last_used > grace)
    return sorted(old, key=lambda it: (it.last_used, it.digest))


def gib(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.2f} MiB"
