"""Tells how a run goes: one event line on stdout per piece of news (`runtimes.contract`)."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from runtimes.contract import TrainingEventType, format_event

RESULT_FILE = "result.json"
"""Written last: a run that finds it has nothing left to do."""


class Reporter:
    """Prints the events of one job."""

    def __init__(self, job: str, *, stream: TextIO | None = None) -> None:
        self._job = job
        self._stream = stream

    def tell(self, type: TrainingEventType, *, step: int, **figures: Any) -> None:
        """Prints one event at once."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        event = {"type": type.value, "job": self._job, "at": at, "step": step, **figures}
        print(format_event(event), file=self._stream or sys.stdout, flush=True)


def rounded(value: float | None, digits: int = 4) -> float | None:
    """A figure as people read it."""
    return None if value is None else round(value, digits)


def tell_finished(reporter: Reporter, result: dict[str, Any]) -> None:
    """The FINISHED event of a result."""
    names = ("trained_tokens", "validation_loss_before", "validation_loss_after", "seconds")
    reporter.tell(
        TrainingEventType.FINISHED, step=result["steps"], **{name: result.get(name) for name in names}
    )
