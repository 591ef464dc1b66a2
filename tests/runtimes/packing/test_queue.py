from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtimes.packing.queue import FairQueue, Queued

requests_of = st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=20), max_size=8)


@given(requests_of, st.integers(1, 600))
def test_every_input_is_taken_once_and_no_batch_is_too_large(requests: list[list[int]], tokens: int) -> None:
    queue: FairQueue[int] = FairQueue()
    for owner, lengths in enumerate(requests):
        queue.add(Queued(owner=owner, lengths=lengths))

    batches = []
    while queue:
        batches.append(queue.take(tokens=tokens))

    taken = [item for batch in batches for item in batch]
    assert sorted(taken) == [
        (owner, index) for owner, lengths in enumerate(requests) for index in range(len(lengths))
    ]
    for batch in batches:
        assert sum(requests[owner][index] for owner, index in batch) <= tokens or len(batch) == 1
    assert queue.take(tokens=tokens) == []


def test_a_small_request_is_in_the_next_batch_after_a_huge_one() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.add(Queued(owner="huge", lengths=[100] * 2000))
    queue.take(tokens=1000)
    queue.add(Queued(owner="small", lengths=[7]))

    assert ("small", 0) in queue.take(tokens=1000)


def test_neighbors_in_length_are_computed_together() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.add(Queued(owner="one", lengths=[10, 90, 11, 91]))

    assert [queue.take(tokens=181), queue.take(tokens=181)] == [
        [("one", 3), ("one", 1)],
        [("one", 2), ("one", 0)],
    ]


def test_what_nobody_waits_for_is_skipped() -> None:
    queue: FairQueue[str] = FairQueue()
    left, stayed = Queued(owner="left", lengths=[5, 5]), Queued(owner="stayed", lengths=[5])
    queue.add(left)
    queue.add(stayed)
    left.left = True

    assert len(queue) == 1
    assert queue.take(tokens=100) == [("stayed", 0)]
    assert not queue


def test_who_waited_is_told_when_it_is_emptied() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.add(Queued(owner="one", lengths=[5]))

    assert queue.clear() == ["one"]
    assert not queue
