from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.packing.bins import Method, PackGroup, PackingReport, count_lengths, plan_packs
from runtimes.packing.rows import pack_lengths

some_lengths = st.lists(st.integers(1, 70), max_size=60)
capacities = st.integers(1, 64)
depths = st.none() | st.integers(1, 5)
methods = st.sampled_from(Method)


@given(some_lengths, capacities, depths, methods)
def test_each_sequence_is_in_one_pack_that_holds_it(
    lengths: list[int], capacity: int, depth: int | None, method: Method
) -> None:
    packed = pack_lengths(lengths, capacity=capacity, depth=depth, method=method)

    assert sorted(packed.order.tolist()) == list(range(len(lengths)))
    packs = [[lengths[index] for index in pack] for pack in packed]
    assert all(packs), "a pack is empty"
    for pack in packs:
        assert sum(pack) <= capacity or len(pack) == 1, pack
        assert depth is None or len(pack) <= depth, pack
    assert packed.report == PackingReport(
        sequences=len(lengths), packs=len(packs), tokens=sum(lengths), capacity=capacity
    )


@given(some_lengths, capacities)
def test_groups_of_packs_are_those_of_one_sequence_at_a_time(lengths: list[int], capacity: int) -> None:
    one_by_one: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [pack for pack in one_by_one if capacity - sum(pack) >= length]
        if fitting:
            max(fitting, key=sum).append(length)
        else:
            one_by_one.append([length])

    plan = plan_packs(count_lengths(lengths), capacity=capacity)

    assert plan.report.packs == len(one_by_one)
    assert Counter(sum(group.lengths) for group in plan.groups for _ in range(group.count)) == Counter(
        map(sum, one_by_one)
    )


@pytest.mark.parametrize(
    ("method", "depth", "groups"),
    [
        (Method.BEST_FIT, None, [(1, (4, 2, 2)), (2, (4, 4)), (1, (6, 2))]),
        (Method.BEST_FIT, 2, [(1, (2,)), (1, (4, 2)), (2, (4, 4)), (1, (6, 2))]),
        (Method.SHORTEST_PACK_FIRST, None, [(2, (4,)), (3, (4, 2)), (1, (6,))]),
        (Method.SHORTEST_PACK_FIRST, 1, [(3, (2,)), (5, (4,)), (1, (6,))]),
    ],
)
def test_packs_are_chosen_as_the_method_says(
    method: Method, depth: int | None, groups: list[tuple[int, tuple[int, ...]]]
) -> None:
    plan = plan_packs(count_lengths([4, 4, 4, 4, 4, 6, 2, 2, 2]), capacity=8, depth=depth, method=method)

    assert list(plan.groups) == [PackGroup(*group) for group in groups]


def test_it_reports_what_packing_saves() -> None:
    report = plan_packs([0, 0, 4, 0, 0, 0, 2], capacity=8).report  # four of 2 tokens, two of 6

    assert report == PackingReport(sequences=6, packs=3, tokens=20, capacity=8)
    assert report.efficiency == pytest.approx(20 / 24)
    assert report.speed_up == 2
    assert report.speed_up_limit == pytest.approx(8 / (20 / 6))


def test_a_plan_takes_no_longer_for_a_larger_corpus() -> None:
    histogram = np.arange(513)

    small = plan_packs(histogram, capacity=512)
    large = plan_packs(histogram * 1_000_000, capacity=512)

    assert large.report.sequences == 1_000_000 * small.report.sequences
    assert len(large.groups) < 4 * 512


@pytest.mark.parametrize(
    ("lengths", "capacity", "depth", "message"),
    [
        ([3], 0, None, "capacity=0"),
        ([3], 8, 0, "depth=0"),
        ([3, 0], 8, None, "a length is 0"),
    ],
)
def test_it_refuses_what_cannot_be_packed(
    lengths: list[int], capacity: int, depth: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pack_lengths(lengths, capacity=capacity, depth=depth)
