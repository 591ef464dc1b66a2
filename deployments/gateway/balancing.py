"""Which replica gets the next call: the one with the fewest calls of ours in progress.

Each gateway counts its own calls only. With several gateways the sum is still even, because each of them
evens out what it sees.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Upstream:
    """One ready replica."""

    uid: str
    address: str
    """host:port"""
    revision: int | None = None


class Balancer:
    """Counts calls in progress by replica, and remembers for a moment which replicas have just failed."""

    def __init__(
        self,
        *,
        suspicion: float,
        clock: Callable[[], float] = time.monotonic,
        tie: Callable[[], float] = random.random,
    ) -> None:
        self._suspicion = suspicion
        self._clock = clock
        self._tie = tie
        self._outstanding: Counter[str] = Counter()
        self._suspects: dict[str, float] = {}  # uid -> until when, by the clock

    @property
    def outstanding(self) -> int:
        """Calls in progress on all replicas together."""
        return self._outstanding.total()

    def choose(
        self, upstreams: Sequence[Upstream], *, besides: Collection[str] = (), prefer: Collection[str] = ()
    ) -> Upstream | None:
        """The least busy replica whose uid is not in `besides`, of those in `prefer` if one of them is left;
        one that has just failed only if all have."""
        now = self._clock()
        self._suspects = {uid: until for uid, until in self._suspects.items() if until > now}
        return min(
            (upstream for upstream in upstreams if upstream.uid not in besides),
            key=lambda upstream: (
                upstream.uid in self._suspects,
                upstream.uid not in prefer,
                self._outstanding[upstream.uid],
                self._tie(),
            ),
            default=None,
        )

    @contextmanager
    def busy(self, upstream: Upstream) -> Iterator[None]:
        """Counts a call as in progress on a replica for as long as the context lasts."""
        self._outstanding[upstream.uid] += 1
        try:
            yield
        finally:
            self._outstanding[upstream.uid] -= 1
            if not self._outstanding[upstream.uid]:
                del self._outstanding[upstream.uid]

    def suspect(self, upstream: Upstream) -> None:
        """Notes that a replica failed a call."""
        self._suspects[upstream.uid] = self._clock() + self._suspicion
