"""Removing versions, on a disk whose size the test says: what is used on it is what the cache holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtimes.cache.failures import NoSpace
from runtimes.cache.layout import Cache, size_of
from runtimes.cache.locks import lock_for_use
from runtimes.cache.marker import MARKER
from runtimes.cache.room import make_room
from runtimes.contract import ExitCode
from tests.runtimes.cache.storage import MIB, Storage

DISK = 20 * MIB
LATER = "f" * 64


def space(folder: Path) -> tuple[int, int]:
    return DISK, DISK - size_of(folder)


def make(storage: Storage, size: int, *, needed: tuple[str, ...] = ()) -> list[str]:
    return make_room(Cache(storage.cache), LATER, size=size, needed=needed, free_share=0.1, space=space)


@pytest.fixture
def versions(storage: Storage) -> list[str]:
    """Three versions of 4 MiB, last used one, three and two hours ago."""
    digests = [storage.add(model=4 * MIB) for _ in range(3)]
    assert storage.run(*digests).code == ExitCode.DONE
    now = Cache(storage.cache).now()
    for digest, hours in zip(digests, (1, 3, 2), strict=True):
        os.utime(storage.cache / digest / MARKER, (0, now - 3600 * hours))
    return digests


def test_nothing_is_removed_while_there_is_room(storage: Storage, versions: list[str]):
    assert make(storage, 5 * MIB) == []
    assert len(storage.cached()) == 3


def test_versions_go_by_their_last_use_until_the_goal_holds(storage: Storage, versions: list[str]):
    one, three, two = versions
    assert make(storage, 12 * MIB) == [three, two]
    assert storage.cached() == storage.stored(one)
    assert list((storage.cache / ".trash").iterdir()) == []


def test_a_start_counts_as_a_use(storage: Storage, versions: list[str]):
    one, three, two = versions
    assert storage.run(three).code == ExitCode.DONE
    assert make(storage, 12 * MIB) == [two, one]


def test_what_a_process_uses_stays_whatever_its_age(storage: Storage, versions: list[str]):
    one, three, two = versions
    handle = lock_for_use(storage.cache / three / MARKER)
    assert handle is not None
    try:
        assert make(storage, 12 * MIB) == [two, one]
        # Seen in use, so it is the most recently used now.
        os.close(handle)
        with pytest.raises(NoSpace, match="were within the last minutes"):
            make(storage, 16 * MIB)
        assert storage.cached() == storage.stored(three)
    finally:
        os.utime(storage.cache / three / MARKER, (0, 0))
    assert make(storage, 16 * MIB) == [three]


def test_the_other_version_of_the_pod_stays(storage: Storage, versions: list[str]):
    one, three, two = versions
    assert make(storage, 12 * MIB, needed=(three,)) == [two, one]


def test_whoever_comes_after_the_removal_finds_nothing_to_use(storage: Storage, versions: list[str]):
    _, three, _ = versions
    marker = storage.cache / three / MARKER
    # Opened before, as a main container may have it, by the folder and not by its name.
    folder = os.open(marker.parent, os.O_RDONLY)
    make(storage, 7 * MIB)
    assert lock_for_use(Path(f"/proc/self/fd/{folder}") / MARKER) is None
    os.close(folder)


def test_a_broken_off_copy_goes_too_but_not_one_that_goes_on(storage: Storage):
    cache = Cache(storage.cache)
    broken, going = "b" * 64, "c" * 64
    for digest in (broken, going):
        folder = cache.incoming / digest
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(bytes(6 * MIB))
        for path in (folder / "model.safetensors", folder):
            os.utime(path, (0, 0))
    lock = cache.lock(going)
    assert lock.acquire()
    assert make(storage, 9 * MIB) == [broken]
    assert [folder.name for folder in cache.incoming.iterdir()] == [going]
    lock.release()


def test_room_that_a_version_on_its_way_will_need_is_not_given_away(storage: Storage):
    cache = Cache(storage.cache)
    going = cache.lock("c" * 64)
    assert going.acquire()
    (cache.incoming / ("c" * 64)).mkdir()
    cache.promise("c" * 64, 10 * MIB)
    with pytest.raises(NoSpace, match="10.00 MiB of it promised to versions on their way"):
        make(storage, 9 * MIB)
    going.release()
    assert make(storage, 9 * MIB) == []


def test_without_locks_nothing_is_removed(storage: Storage, versions: list[str]):
    cache = Cache(storage.cache)
    cache.has_kernel_locks = False
    with pytest.raises(NoSpace, match="no locks, so none of the 3 others"):
        make_room(cache, LATER, size=12 * MIB, needed=(), free_share=0.1, space=space)
    assert len(storage.cached()) == 3


def test_a_damaged_version_in_use_is_replaced_and_removed_once_it_is_free(storage: Storage):
    digest, other = storage.add(model=2 * MIB), storage.add(model=MIB)
    assert storage.run(digest).code == ExitCode.DONE
    handle = lock_for_use(storage.cache / digest / MARKER)
    assert handle is not None
    with (storage.cache / digest / "model.safetensors").open("r+b") as file:
        file.truncate(MIB)
    assert storage.run(digest).code == ExitCode.DONE
    assert storage.cached() == storage.stored(digest)
    (aside,) = (storage.cache / ".trash").iterdir()
    assert storage.run(other).code == ExitCode.DONE
    assert sorted(path.name for path in aside.iterdir()) == [MARKER, "model.safetensors", "tokenizer"]
    os.close(handle)
    assert make(storage, MIB) == []
    assert not aside.exists()
