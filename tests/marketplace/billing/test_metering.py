from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.billing.metering import Gap, Overlap, Stretch, clip, cut, gaps, missing

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def serving(start: float, end: float) -> Stretch:
    return Stretch("serving", "customer", at(start), at(end))


def test_a_cut_keeps_the_time_and_makes_two_of_one() -> None:
    assert cut([serving(0, 10)], at=[at(0), at(4), at(10), at(99)]) == [serving(0, 4), serving(4, 10)]


def test_clipping_keeps_what_is_within_the_period() -> None:
    stretches = [serving(0, 10), serving(10, 20), serving(20, 30)]
    assert clip(stretches, start=at(5), end=at(20)) == [serving(5, 10), serving(10, 20)]
    assert clip(stretches, start=None, end=None) == stretches


@pytest.mark.parametrize(
    ("case", "wanted", "recorded", "new"),
    [
        ("nothing is recorded", [(0, 10)], [], [(0, 10)]),
        ("all is recorded", [(0, 10)], [(0, 10)], []),
        ("it grew", [(0, 10)], [(0, 4)], [(4, 10)]),
        ("recorded in pieces", [(0, 10)], [(0, 4), (4, 10)], []),
        ("a hole in the middle", [(0, 10)], [(0, 2), (8, 10)], [(2, 8)]),
        ("recorded around it", [(2, 8)], [(0, 10)], []),
        ("recorded elsewhere", [(0, 10)], [(20, 30)], [(0, 10)]),
        ("an empty stretch", [(5, 5)], [], []),
    ],
)
def test_only_what_is_not_recorded_is_missing(
    case: str, wanted: list[tuple[int, int]], recorded: list[tuple[int, int]], new: list[tuple[int, int]]
) -> None:
    found = missing([serving(*it) for it in wanted], recorded=[serving(*it) for it in recorded])
    assert found == [serving(*it) for it in new], case


@given(st.lists(st.integers(0, 100), min_size=2, max_size=12, unique=True), st.integers(0, 100))
def test_recording_what_is_missing_tiles_the_whole(moments: list[int], until: int) -> None:
    moments.sort()
    whole = [serving(a, b) for a, b in zip(moments, moments[1:], strict=False)]
    recorded = clip(whole, start=None, end=at(until))
    both = recorded + missing(whole, recorded=recorded)
    assert gaps(both, start=at(moments[0]), end=at(moments[-1])) == []
    assert sum((it.duration for it in both), timedelta()) == timedelta(seconds=moments[-1] - moments[0])


def test_it_refuses_another_story_about_a_recorded_moment() -> None:
    recorded = [Stretch("starting", "customer", at(0), at(5))]
    with pytest.raises(Overlap, match="recorded as starting/customer and cannot become serving/customer"):
        missing([serving(4, 10)], recorded=recorded)


def test_gaps_are_found_inside_and_at_both_ends() -> None:
    stretches = [serving(5, 10), serving(12, 20)]
    assert gaps(stretches) == [Gap(at(10), at(12))]
    assert gaps(stretches, start=at(0), end=at(30)) == [
        Gap(at(0), at(5)),
        Gap(at(10), at(12)),
        Gap(at(20), at(30)),
    ]
    assert gaps([]) == []


def test_it_refuses_times_without_timezone_and_backward_stretches() -> None:
    with pytest.raises(ValueError, match="start of a stretch has no timezone"):
        Stretch("serving", "customer", datetime(2026, 3, 1), at(1))
    with pytest.raises(ValueError, match="before it starts"):
        serving(2, 1)
