"""Who is computed next: requests in turn, one input each, until a batch has its tokens.

No timer: a batch is what has queued while the last one ran, so that a text under light load is computed alone
and at once. Turns keep a request of two thousand inputs from holding up one of a single input.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class Queued(Generic[T]):
    """The inputs of one request that are not computed yet."""

    owner: T
    lengths: Sequence[int]
    """Tokens of each input."""
    left: bool = False
    """Set when nobody waits for the answer any more: what still waits is then never computed."""
    order: deque[int] = field(init=False)
    """Indexes of the inputs that wait. Neighbors in length go together, which computes fastest."""

    def __post_init__(self) -> None:
        self.order = deque(sorted(range(len(self.lengths)), key=self.lengths.__getitem__, reverse=True))


class FairQueue(Generic[T]):
    """Requests in turn. Not for several threads at once."""

    def __init__(self) -> None:
        self._requests: deque[Queued[T]] = deque()

    def __len__(self) -> int:
        """Inputs that wait."""
        return sum(len(request.order) for request in self._requests if not request.left)

    def __bool__(self) -> bool:
        return any(request.order and not request.left for request in self._requests)

    def add(self, request: Queued[T]) -> None:
        self._requests.append(request)

    def take(self, *, tokens: int) -> list[tuple[T, int]]:
        """The next batch as (owner, index of the input), at most `tokens` in all unless one input alone has
        more; empty when nothing waits. The next turn begins where this one ended.
        """
        batch: list[tuple[T, int]] = []
        total = 0
        while self._requests:
            request = self._requests[0]
            if request.left or not request.order:
                self._requests.popleft()
                continue
            index = request.order[0]
            if batch and total + request.lengths[index] > tokens:
                break
            request.order.popleft()
            batch.append((request.owner, index))
            total += request.lengths[index]
            self._requests.rotate(-1)
        return batch

    def clear(self) -> list[T]:
        """Empties the queue; returns who waited."""
        owners = [request.owner for request in self._requests if not request.left]
        self._requests.clear()
        return owners
