"""Copies one file and hashes it on the way: one thread reads and writes, another hashes.

The source is read once. A copy inside the kernel (copy_file_range, a reflink) would leave the hash to read it
a second time, and the source is what is slow: the storage lies behind the network.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import TracebackType

BLOCK_BYTES = 4 * 2**20
BLOCKS = 3
"""Buffers of one copy: one is read or written, one is hashed, one waits."""


def copy_and_hash(source: Path, target: Path, *, on_read: Callable[[int, bool], object]) -> str:
    """Continues `target` from the bytes it has, and returns the sha256 (lower-case hex) of all of it.

    `on_read` is called with the bytes of each block and whether they came from the source; it may raise to
    end the copy, and then what was written stays. The target has reached the disk at the end.
    """
    buffers: SimpleQueue[bytearray] = SimpleQueue()
    for _ in range(BLOCKS):
        buffers.put(bytearray(BLOCK_BYTES))
    with open(target, "ab+", buffering=0) as copy, _Hasher(buffers) as hasher:
        copy.seek(0)
        while size := copy.readinto(buffer := buffers.get()):
            hasher.add(buffer, size)
            on_read(size, False)
        buffers.put(buffer)
        with open(source, "rb", buffering=0) as original:
            original.seek(copy.tell())
            os.posix_fadvise(original.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while size := original.readinto(buffer := buffers.get()):
                _write(copy.fileno(), memoryview(buffer)[:size])
                hasher.add(buffer, size)
                on_read(size, True)
        os.fsync(copy.fileno())
    return hasher.digest


def _write(handle: int, block: memoryview) -> None:
    while block:
        block = block[os.write(handle, block) :]


class _Hasher:
    """A thread that hashes blocks in their order and gives the buffers back."""

    def __init__(self, buffers: SimpleQueue[bytearray]) -> None:
        self._buffers = buffers
        self._blocks: SimpleQueue[tuple[bytearray, int] | None] = SimpleQueue()
        self._sha256 = hashlib.sha256()
        self._thread = Thread(target=self._hash, name="hash", daemon=True)

    def __enter__(self) -> _Hasher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.put(None)
        self._thread.join()

    def add(self, buffer: bytearray, size: int) -> None:
        """Hashes the first `size` bytes, some time later; the buffer must not be changed any more."""
        self._blocks.put((buffer, size))

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()

    def _hash(self) -> None:
        while (block := self._blocks.get()) is not None:
            buffer, size = block
            self._sha256.update(memoryview(buffer)[:size])
            self._buffers.put(buffer)
