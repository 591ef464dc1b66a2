"""Shows that a process without a port still turns: it touches a file, and a probe looks how old the file is.

    HEARTBEAT_PATH=/tmp/heartbeat python -m marketplace.config.heartbeat 300

ends with 0 when the file is younger than 300 s, and with 1 and the reason when not. Celery's `inspect ping`
asks over the broker: while that is away, whatever is asked would be taken for dead at once.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

VARIABLE = "HEARTBEAT_PATH"
EVERY_SECONDS = 10.0
"""How often a process touches its file; a probe should allow for many of these."""


def beat() -> None:
    """Touches the file; nothing where no file is named."""
    path = os.environ.get(VARIABLE)
    if path:
        Path(path).touch()


def what_is_wrong(*, oldest_seconds: float) -> str:
    """Empty when the file is young enough."""
    path = os.environ.get(VARIABLE)
    if not path:
        return f"{VARIABLE} is not set"
    try:
        age = time.time() - Path(path).stat().st_mtime
    except FileNotFoundError:
        return f"{path} is not there: the process has not begun to turn"
    return "" if age <= oldest_seconds else f"no heartbeat for {age:.0f} s"


def main(arguments: list[str]) -> int:
    problem = what_is_wrong(oldest_seconds=float(arguments[0]))
    if problem:
        print(problem, file=sys.stderr)
    return int(bool(problem))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
