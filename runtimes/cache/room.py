"""Makes room in the cache: removes what nobody has used for longest until the free-space goal holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from runtimes.cache.failures import NoSpace
from runtimes.cache.layout import Cache
from runtimes.cache.locks import locked_for_removal
from runtimes.cache.marker import MARKER
from runtimes.cache.plan import Kept, Room, gib, removal_order


class Space(Protocol):
    """How full a file system is."""

    def __call__(self, folder: Path) -> tuple[int, int]:
        """Total and free bytes."""
        ...


def space_of(folder: Path) -> tuple[int, int]:
    """What the file system says: free is what others than root can have."""
    facts = os.statvfs(folder)
    return facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize


def make_room(
    cache: Cache,
    digest: str,
    *,
    size: int,
    needed: Collection[str],
    free_share: float,
    space: Space = space_of,
    on_removal: Callable[[Kept], object] = lambda _: None,
) -> list[str]:
    """Sees to it that a version of `size` bytes can be brought, and promises it the room.

    The caller holds the lock "room" and the version's. `needed`: versions that the pod uses itself. Returns
    the digests that were removed. Raises NoSpace.
    """
    removed: list[str] = []
    cache.empty_trash()
    room = _room(cache, digest, size=size, free_share=free_share, space=space)
    if room.missing:
        kept = [*cache.versions(), *cache.partial_versions()]
        for candidate in removal_order(kept, needed={*needed, digest}, now=cache.now()):
            if not _remove(cache, candidate):
                continue
            on_removal(candidate)
            removed.append(candidate.digest)
            room = _room(cache, digest, size=size, free_share=free_share, space=space)
            if not room.missing:
                break
        else:
            others = [it for it in kept if it.digest not in {*needed, digest, *removed}]
            raise NoSpace(f"the cache has no room for version {digest[:12]}: {room}; {_left(cache, others)}")
    cache.promise(digest, size)
    return removed


def _left(cache: Cache, others: Collection[Kept]) -> str:
    """Why nothing else was removed."""
    if not others:
        return "nothing is left in the cache that could be removed"
    size = gib(sum(it.bytes for it in others))
    if not cache.has_kernel_locks:
        return f"its file system has no locks, so none of the {len(others)} others ({size}) can be removed"
    return f"the {len(others)} others ({size}) are in use or were within the last minutes"


def _room(cache: Cache, digest: str, *, size: int, free_share: float, space: Space) -> Room:
    total, free = space(cache.root)
    return Room(
        total=total,
        free=free,
        reserved=sum(
            max(0, cache.promised(it.digest) - it.bytes)
            for it in cache.partial_versions()
            if it.digest != digest and _is_coming(cache, it.digest)
        ),
        needed=max(0, size - _written(cache, digest)),
        free_share=free_share,
    )


def _written(cache: Cache, digest: str) -> int:
    return next((it.bytes for it in cache.partial_versions() if it.digest == digest), 0)


def _is_coming(cache: Cache, digest: str) -> bool:
    """Whether somebody is bringing the version now."""
    lock = cache.lock(digest)
    if lock.acquire():
        lock.release()
        return False
    return True


def _remove(cache: Cache, candidate: Kept) -> bool:
    """Removes a version unless it is in use; then it counts as used now."""
    if not cache.has_kernel_locks:
        return False
    if not candidate.is_whole:
        return _remove_part(cache, candidate.digest)
    folder = cache.root / candidate.digest
    with locked_for_removal(folder / MARKER) as unused:
        if unused:
            # First of all, so that whoever comes now sees that it is gone.
            (folder / MARKER).unlink(missing_ok=True)
            cache.discard(folder)
    if not unused:
        cache.touch(candidate.digest)
        return False
    cache.empty_trash()
    return True


def _remove_part(cache: Cache, digest: str) -> bool:
    lock = cache.lock(digest)
    if not lock.acquire():
        return False
    try:
        cache.discard(cache.incoming / digest)
    finally:
        lock.release()
    cache.empty_trash()
    return True
