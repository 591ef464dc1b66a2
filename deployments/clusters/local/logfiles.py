"""Output of containers on disk: reads it by line number, and removes what is too much.

A pod's log is one file over all runs of its container, and outlives pod and objects.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from deployments.clusters.port import LogLine

KEPT_PER_RESOURCE = 20
"""Logs of the newest pods of a resource are kept; of these, together no more than KEPT_BYTES."""
KEPT_BYTES = 64 * 2**20
LONGEST_LINE = 16 * 2**10
"""Bytes of a line that are shown, as container runtimes cut them."""


class LogReader:
    """Reads logs by line number. Remembers where it stopped, so that following a log does not reread it."""

    def __init__(self) -> None:
        self._places: dict[Path, tuple[int, int]] = {}  # file -> (lines before, byte offset)
        self._guard = threading.Lock()

    def read(self, path: Path, *, after: int, limit: int, complete: bool) -> list[LogLine]:
        """Lines after number `after`. A last line without an end counts only if the log is `complete`."""
        number, offset = self._places.get(path, (0, 0))
        if number > after:
            number, offset = 0, 0
        lines: list[LogLine] = []
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                while len(lines) < limit and (line := file.readline()):
                    if not line.endswith(b"\n") and not complete:
                        break
                    number += 1
                    offset += len(line)
                    if number > after:
                        lines.append(LogLine(number=number, text=_text(line)))
        except FileNotFoundError:
            return []
        with self._guard:
            if len(self._places) >= 256:
                self._places.clear()
            self._places[path] = (number, offset)
        return lines


def find_log(folder: Path, *, pod: str | None) -> Path | None:
    """The log of a pod (uid) among those of its resource, or of the newest pod that has one."""
    with suppress(FileNotFoundError):
        files = sorted(folder.iterdir())
        return next((path for path in reversed(files) if pod is None or path.stem.endswith(f"-{pod}")), None)
    return None


def prune_logs(folder: Path, *, alive: Collection[Path]) -> None:
    """Removes the oldest logs beyond the limits; never one of a pod that is still there."""
    with suppress(FileNotFoundError):
        size = 0
        for position, path in enumerate(sorted(folder.iterdir(), reverse=True)):
            size += path.stat().st_size
            if path not in alive and (position >= KEPT_PER_RESOURCE or size > KEPT_BYTES):
                path.unlink()


def _text(line: bytes) -> str:
    return line[:LONGEST_LINE].decode(errors="replace").rstrip("\r\n")
