"""Weights that a test run prepares once, however many workers it has."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def prepare_once(folder: Path, *, module: str, sources: list[Path]) -> Path:
    """The folder that `python -m module SOURCE ... FOLDER` writes. Who comes second waits for the first."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            command = [sys.executable, "-m", module, *map(str, sources), str(folder)]
            subprocess.run(command, check=True, cwd=ROOT)
    return folder
