from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtimes.packing.padded import plan_batches


@given(st.lists(st.integers(1, 600)), st.integers(1, 2000))
def test_every_sequence_is_in_one_batch_and_no_batch_is_too_large(
    lengths: list[int], max_tokens: int
) -> None:
    batches = plan_batches(lengths, max_tokens=max_tokens)

    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = max(lengths[index] for index in batch) * len(batch)
        assert padded <= max_tokens or len(batch) == 1


def test_neighbors_in_length_share_a_batch() -> None:
    assert plan_batches([10, 100, 11, 90], max_tokens=200) == [[1, 3], [2, 0]]
