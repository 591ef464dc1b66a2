"""The init container as processes: racing, killed, and with files that are not what they should be."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from runtimes.contract import ExitCode, WeightsPhase
from tests.runtimes.cache.storage import MIB, Storage, end_of
from tests.waiting import eventually

OWN_READS = 16 * MIB
"""More than Python reads of itself."""


def test_a_version_is_brought_whole_and_verified(storage: Storage):
    digest = storage.add(model=5 * MIB, empty=0)
    ended = storage.run(digest)
    assert (ended.code, ended.phases) == (ExitCode.DONE, [WeightsPhase.FETCHING, WeightsPhase.READY]), ended
    total = 5 * MIB + len("{}")
    last = ended.lines[-1]
    assert (last.bytes_done, last.bytes_total, last.bytes_fetched, last.seconds_left) == (
        total,
        total,
        total,
        0.0,
    )
    assert storage.cached() == storage.stored(digest)


def test_the_second_start_reads_nothing_and_does_not_need_the_storage(storage: Storage):
    digest = storage.add(model=64 * MIB)
    assert storage.run(digest).code == ExitCode.DONE
    expected = storage.stored(digest)
    (storage.source / digest).rename(storage.root / "unreachable")
    ended = storage.run(digest)
    assert (ended.code, ended.phases) == (ExitCode.DONE, [WeightsPhase.READY]), ended
    assert (ended.lines[-1].bytes_done, ended.lines[-1].bytes_fetched) == (64 * MIB + 2, 0)
    assert ended.bytes_read < OWN_READS
    assert storage.cached() == expected


def test_of_eight_pods_one_brings_the_version_and_the_others_wait(storage: Storage):
    size = 192 * MIB
    digest = storage.add(model=size)
    ended = [end_of(process) for process in [storage.start(digest) for _ in range(8)]]
    assert [it.code for it in ended] == [ExitCode.DONE] * 8, [it.errors for it in ended]
    assert sorted(it.lines[-1].bytes_fetched for it in ended) == [0] * 7 + [size + 2]
    # As the kernel counted, which knows nothing of our counters.
    read = sorted(it.bytes_read for it in ended)
    assert all(it < OWN_READS for it in read[:7]), read
    assert size < read[7] < size + OWN_READS, read
    assert storage.cached() == storage.stored(digest)


def test_a_killed_container_is_continued_where_it_was(storage: Storage):
    size = 384 * MIB
    digest = storage.add(model=size)
    process = storage.start(digest)
    part = storage.cache / ".incoming" / digest / "model.safetensors"
    eventually(lambda: part.exists() and part.stat().st_size > 16 * MIB, every=0.001)
    process.send_signal(signal.SIGKILL)
    end_of(process)
    brought = part.stat().st_size
    assert brought < size, "it was too quick to be killed"
    assert storage.cached() == {}
    ended = storage.run(digest)
    assert ended.code == ExitCode.DONE, ended.errors
    # The two bytes of the other file may have been there as well.
    assert ended.lines[-1].bytes_fetched - (size - brought) in (0, 2)
    assert storage.cached() == storage.stored(digest)


def test_whoever_waits_takes_over_from_one_that_was_killed(storage: Storage):
    digest = storage.add(model=384 * MIB)
    first = storage.start(digest)
    part = storage.cache / ".incoming" / digest / "model.safetensors"
    eventually(lambda: part.exists() and part.stat().st_size > 0, every=0.001)
    first.send_signal(signal.SIGSTOP)
    second = storage.start(digest)
    assert second.stdout is not None
    waiting = second.stdout.readline()
    assert '"phase":"waiting"' in waiting
    first.send_signal(signal.SIGKILL)
    end_of(first)
    ended = end_of(second)
    assert ended.code == ExitCode.DONE, ended.errors
    assert storage.cached() == storage.stored(digest)


def test_a_part_that_a_power_loss_damaged_is_brought_again(storage: Storage):
    digest = storage.add(model=8 * MIB)
    part = storage.cache / ".incoming" / digest / "model.safetensors"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(3 * MIB))
    ended = storage.run(digest)
    assert (ended.code, ended.lines[-1].bytes_done) == (ExitCode.DONE, 8 * MIB + 2), ended
    assert storage.cached() == storage.stored(digest)


def test_a_container_that_is_asked_to_stop_keeps_what_it_has(storage: Storage):
    digest = storage.add(model=384 * MIB)
    process = storage.start(digest)
    part = storage.cache / ".incoming" / digest / "model.safetensors"
    eventually(lambda: part.exists() and part.stat().st_size > 0, every=0.001)
    process.terminate()
    assert end_of(process).code == ExitCode.STOPPED
    assert part.stat().st_size > 0


def test_a_file_that_is_not_the_approved_one_is_never_served(storage: Storage):
    digest = storage.add(model=3 * MIB, other=2 * MIB)
    file = storage.source / digest / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    ended = storage.run(digest)
    assert (ended.code, ended.phases[-1]) == (ExitCode.WEIGHTS_CORRUPT, WeightsPhase.FAILED), ended
    assert "'model.safetensors'" in ended.lines[-1].message
    assert storage.versions[digest]["model.safetensors"] in ended.lines[-1].message
    assert storage.cached() == {}


def test_a_file_that_the_storage_lacks_is_named(storage: Storage):
    digest = storage.add(model=3 * MIB)
    (storage.source / digest / "model.safetensors").unlink()
    ended = storage.run(digest)
    assert ended.code == ExitCode.WEIGHTS_MISSING
    assert "'model.safetensors'" in ended.lines[-1].message
    assert storage.cached() == {}


def _cut(file: Path) -> None:
    with file.open("r+b") as handle:
        handle.truncate(5 * MIB)


def _change(file: Path) -> None:
    with file.open("r+b") as handle:
        handle.write(b"other")


def _vouch_for_nothing(file: Path) -> None:
    (file.parent / ".verified.json").write_text('{"model.safetensors": {}}')


@pytest.mark.parametrize(
    ("damage", "fetched"),
    [(_cut, 3 * MIB), (_change, 8 * MIB), (Path.unlink, 8 * MIB), (_vouch_for_nothing, 0)],
)
def test_of_a_damaged_version_only_what_is_wrong_is_brought_again(storage: Storage, damage, fetched: int):
    digest = storage.add(model=8 * MIB, other=8 * MIB)
    assert storage.run(digest).code == ExitCode.DONE
    damage(storage.cache / digest / "model.safetensors")
    ended = storage.run(digest)
    assert (ended.code, ended.lines[-1].bytes_fetched) == (ExitCode.DONE, fetched), ended
    assert storage.cached() == storage.stored(digest)


def test_an_empty_folder_that_the_kubelet_made_is_no_version(storage: Storage):
    digest = storage.add(model=MIB)
    (storage.cache / digest).mkdir()
    assert storage.run(digest).code == ExitCode.DONE
    assert storage.cached() == storage.stored(digest)


def test_base_and_adapter_both_come_through_the_cache(storage: Storage):
    base, adapter = storage.add(model=4 * MIB), storage.add(adapter=MIB)
    ended = storage.run(base, adapter)
    assert (ended.code, ended.lines[-1].bytes_total) == (ExitCode.DONE, 5 * MIB + 4)
    assert storage.cached() == storage.stored(base, adapter)


def test_a_version_that_fits_no_disk_is_refused_in_numbers(storage: Storage):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(storage.cache)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a file system of a given size can only be mounted by root")
    try:
        old, new, large = (
            storage.add(model=40 * MIB),
            storage.add(model=44 * MIB),
            storage.add(model=80 * MIB),
        )
        assert storage.run(old, free_share=0.1).code == ExitCode.DONE
        ended = storage.run(new, free_share=0.1)
        assert ended.code == ExitCode.WEIGHTS_NO_SPACE, ended
        assert "the 1 others (40.00 MiB) are in use or were within the last minutes" in ended.errors
        os.utime(storage.cache / old / ".verified.json", (0, 0))
        ended = storage.run(new, free_share=0.1)
        assert (ended.code, WeightsPhase.MAKING_ROOM in ended.phases) == (ExitCode.DONE, True), ended
        assert storage.cached() == storage.stored(new)
        os.utime(storage.cache / new / ".verified.json", (0, 0))
        ended = storage.run(large, free_share=0.1)
        assert ended.code == ExitCode.WEIGHTS_NO_SPACE
        assert "80.00 MiB are needed and 6.40 MiB (10% of 64.00 MiB) have to stay free" in ended.errors
    finally:
        subprocess.run(["umount", str(storage.cache)], check=True)


@pytest.mark.parametrize(
    ("case", "variable", "value", "message"),
    [
        ("no versions", "RUNTIME_VERSIONS", "", "RUNTIME_VERSIONS"),
        ("not a digest", "RUNTIME_VERSIONS", '{"../x": {"a": "b"}}', "'../x' is not a digest"),
        ("a file outside", "RUNTIME_VERSIONS", f'{{"{"a" * 64}": {{"../x": "b"}}}}', "names '../x'"),
        (
            "a file like ours",
            "RUNTIME_VERSIONS",
            f'{{"{"a" * 64}": {{".verified.json": "b"}}}}',
            "it may not",
        ),
        ("no file", "RUNTIME_VERSIONS", f'{{"{"a" * 64}": {{}}}}', "names no file"),
        ("all free", "RUNTIME_FREE_SHARE", "1", "RUNTIME_FREE_SHARE=1.0 must be"),
        ("no folder", "RUNTIME_CACHE_DIR", "/proc/none", "chown"),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    storage: Storage, case: str, variable: str, value: str, message: str
):
    ended = end_of(storage.start(storage.add(model=MIB), variables={variable: value}))
    assert (ended.code, message in ended.lines[-1].message) == (ExitCode.BAD_CONFIGURATION, True), case
