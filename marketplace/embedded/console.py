"""The logs of all components on one console, each line with its component's name.

Components write to their files themselves; we only read along. So a log is whole even when the console is
slow, gone, or was never there (`up --detach`).
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import TextIO

COLORS = (36, 33, 32, 35, 34, 96, 93, 92, 95)  # ANSI foregrounds that read well on dark and light
LARGEST_LOG_BYTES = 50_000_000


class Console:
    """Prints messages of the manager and follows the log files given to `follow`."""

    def __init__(self, stream: TextIO | None = None, *, width: int = 12) -> None:
        self.stream = stream or sys.stdout
        self.width = width
        self._positions: dict[str, tuple[Path, int]] = {}

    def say(self, text: str, *, name: str = "up") -> None:
        """Prints one message, every line of it with the name in front."""
        for line in text.splitlines():
            print(f"{self._label(name)} {line}", file=self.stream, flush=True)

    def follow(self, name: str, log: Path) -> None:
        """From now on, prints what is added to the log."""
        self._positions[name] = (log, log.stat().st_size if log.exists() else 0)

    def catch_up(self) -> None:
        """Prints the whole lines added since the last time, and keeps the files from growing for ever."""
        for name, (log, position) in self._positions.items():
            try:
                with log.open("rb") as file:
                    file.seek(position)
                    text = file.read()
            except FileNotFoundError:
                continue
            whole = text.rpartition(b"\n")[0]
            if whole:
                self.say(whole.decode(errors="replace"), name=name)
                position += len(whole) + 1
            if position > LARGEST_LOG_BYTES:
                # The component keeps the file open for appending, so it is emptied rather than moved; a line
                # written between the copy and the cut is lost.
                shutil.copyfile(log, log.with_suffix(".log.1"))
                with log.open("rb+") as file:
                    file.truncate(0)
                position = 0
            self._positions[name] = (log, position)

    def _label(self, name: str) -> str:
        label = f"{name:<{self.width}} |"
        if not self.stream.isatty():
            return label
        names = list(self._positions)
        color = COLORS[names.index(name) % len(COLORS)] if name in names else 1
        return f"\x1b[{color}m{label}\x1b[0m"


class NamedStream(io.TextIOBase):
    """A text stream whose whole lines the console prints under a name."""

    def __init__(self, console: Console, *, name: str) -> None:
        self.console = console
        self.name = name
        self._rest = ""

    def write(self, text: str) -> int:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self.console.say(line, name=self.name)
        return len(text)
