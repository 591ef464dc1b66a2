"""Output of containers on disk: reads it by line number, and removes what is too much.

A pod's log is one file over all runs of its container, and outlives pod and objects.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deployments.clusters.port import LogLine

KEPT_PER_RESOURCE = 20
"""Logs of the newest pods of a resource are kept; of these, together no more than KEPT_BYTES."""
KEPT_BYTES = 64 * 2**20
LONGEST_LINE = 16 * 2**10
"""Bytes of a line that are shown, as container runtimes cut them."""


@dataclass(frozen=True)
class _Place:
    """Between two lines of a file."""

    lines: int = 0
    """Lines before it."""
    offset: int = 0
    """Bytes before it."""


class LogReader:
    """Reads logs by line number. Remembers where it stopped, so that following a log does not reread it."""

    def __init__(self) -> None:
        self._stops: dict[Path, _Place] = {}
        self._tails: dict[Path, _Place] = {}
        """Before the first line of the tail that was read last: the next tail begins there or later."""
        self._guard = threading.Lock()

    def read(self, path: Path, *, after: int, limit: int, complete: bool) -> list[LogLine]:
        """The first lines after number `after`.

        A last line without an end counts only if the log is `complete`.
        """
        stop = self._stops.get(path, _Place())
        if stop.lines > after:
            stop = _Place()
        lines: list[LogLine] = []
        try:
            for line, begin, end in _lines(path, stop, complete=complete):
                if len(lines) == limit:
                    stop = begin
                    break
                stop = end
                if end.lines > after:
                    lines.append(LogLine(number=end.lines, text=_text(line)))
        except FileNotFoundError:
            return []
        self._remember(self._stops, path, stop)
        return lines

    def read_tail(self, path: Path, *, after: int, limit: int, complete: bool) -> list[LogLine]:
        """The last lines after number `after`, the oldest first."""
        known = self._tails.get(path, _Place())
        try:
            tail = deque(_lines(path, known, complete=complete), maxlen=limit)
            if len(tail) < limit and known.lines > after:  # more is asked for than the last time
                tail = deque(_lines(path, _Place(), complete=complete), maxlen=limit)
        except FileNotFoundError:
            return []
        if tail:
            self._remember(self._tails, path, tail[0][1])
        return [LogLine(number=end.lines, text=_text(line)) for line, _, end in tail if end.lines > after]

    def _remember(self, places: dict[Path, _Place], path: Path, place: _Place) -> None:
        with self._guard:
            if len(places) >= 256:
                places.clear()
            places[path] = place


def _lines(path: Path, place: _Place, *, complete: bool) -> Iterator[tuple[bytes, _Place, _Place]]:
    """Each line from the place on, cut to what is shown, with the places before and after it."""
    with open(path, "rb") as file:
        file.seek(place.offset)
        while line := file.readline():
            if not line.endswith(b"\n") and not complete:
                return
            before, place = place, _Place(place.lines + 1, place.offset + len(line))
            yield line[:LONGEST_LINE], before, place


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
    return line.decode(errors="replace").rstrip("\r\n")
