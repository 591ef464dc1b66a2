import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.packing.rows import pack_rows

lengths_of_texts = st.lists(st.integers(min_value=1, max_value=60), max_size=40)


@given(lengths=lengths_of_texts, capacity=st.integers(min_value=1, max_value=64))
def test_each_sequence_is_in_one_row_and_no_row_is_too_long(lengths: list[int], capacity: int) -> None:
    rows = pack_rows(lengths, capacity=capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(len(row) == 1 or sum(lengths[index] for index in row) <= capacity for row in rows)


@given(lengths=lengths_of_texts)
def test_two_rows_that_would_fit_into_one_are_one(lengths: list[int]) -> None:
    totals = sorted(sum(lengths[index] for index in row) for row in pack_rows(lengths, capacity=64))
    assert len(totals) < 2 or totals[0] + totals[1] > 64


@pytest.mark.parametrize(
    ("case", "lengths", "rows"),
    [
        ("nothing", [], []),
        ("a perfect fit is taken before a loose one", [6, 5, 4, 5], [[0, 2], [1, 3]]),
        ("what is too long is alone", [3, 99, 3], [[0, 2], [1]]),
    ],
)
def test_rows_are_filled_best_fit(case: str, lengths: list[int], rows: list[list[int]]) -> None:
    assert pack_rows(lengths, capacity=10) == rows
