"""Tells the control plane how far the weights are, on stdout, at most every WEIGHTS_SECONDS per phase."""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import UTC, datetime

from runtimes.contract import WEIGHTS_SECONDS, WeightsPhase, WeightsProgress, format_weights

RATE_SECONDS = 10.0
"""The speed is that of these last seconds."""


class Reporter:
    """Counts bytes, from any thread, and prints lines, from one."""

    def __init__(self, *, total: int = 0) -> None:
        self.total = total
        self.fetched = 0
        self._done = 0
        self._guard = threading.Lock()
        self._recent: deque[tuple[float, int]] = deque()
        self._told: tuple[WeightsPhase, float] | None = None

    @property
    def done(self) -> int:
        return self._done

    def count(self, size: int, *, fetched: bool) -> None:
        """So many more bytes are in the cache and hashed; negative when they have to be brought again."""
        with self._guard:
            self._done += size
            if fetched:
                self.fetched += size

    def tell(self, phase: WeightsPhase, *, extra: int = 0, message: str = "") -> None:
        """Prints a line unless one of this phase was printed just now.

        `extra`: bytes that another pod has brought. Some of a kept part may be hashed a second time, so the
        sum is cut off at the total.
        """
        now = time.monotonic()
        done = min(self._done + extra, self.total)
        if self._told is None or self._told[0] is not phase:
            self._recent.clear()
        elif now - self._told[1] < WEIGHTS_SECONDS:
            return
        self._told = (phase, now)
        self._recent.append((now, done))
        while now - self._recent[0][0] > RATE_SECONDS:
            self._recent.popleft()
        began, before = self._recent[0]
        speed = max(0.0, (done - before) / (now - began)) if now > began else 0.0
        progress = WeightsProgress(
            phase=phase,
            at=datetime.now(UTC).isoformat(),
            bytes_done=done,
            bytes_total=self.total,
            bytes_per_second=round(speed, 1),
            bytes_fetched=self.fetched,
            message=message,
        )
        print(format_weights(progress), flush=True)
