"""A few rounds of `make chaos-cluster`, so that it does not rot, and that it can turn red."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.chaos.cluster.installation import installed
from tests.chaos.cluster.rounds import Round
from tests.chaos.cluster.truth import Billed, PodStory, Turn, wrong_bill

SEED = 1
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.django_db(transaction=True)
def test_a_few_rounds_end_right(tmp_path: Path) -> None:
    with installed(tmp_path, seed=SEED) as installation:
        for number in range(1, 4):
            round_ = Round(installation, seed=SEED, number=number)
            assert round_.play() == [], round_.story


def second(number: int) -> datetime:
    return NOON + timedelta(seconds=number)


STORY = PodStory(
    uid="u",
    resource="dep_1",
    is_job=False,
    starts={second(0)},
    turns=[Turn(second(at), ready, None) for at, ready in ((0, False), (10, True), (50, False), (60, True))],
    ended_at=second(100),
    removed_at=second(100),
)
RIGHT = ((0, 10, False), (10, 50, True), (50, 60, False), (60, 100, True))


@pytest.mark.parametrize(
    ("what", "intervals", "problem"),
    [
        ("right", RIGHT, ""),
        ("a lost second", ((0, 10, False), (11, 50, True), (50, 60, False), (60, 100, True)), "is lost"),
        (
            "a doubled second",
            ((0, 10, False), (10, 51, True), (50, 60, False), (60, 100, True)),
            "is doubled",
        ),
        ("an outage that is billed", ((0, 10, False), (10, 100, True)), "was not ready and is billed"),
        ("service that is not billed", ((0, 60, False), (60, 100, True)), "was ready and is not billed"),
        ("an end before the end", ((0, 10, False), (10, 50, True)), "is recorded until"),
    ],
)
def test_a_wrong_bill_is_found(what: str, intervals: tuple[tuple[int, int, bool], ...], problem: str) -> None:
    billed = Billed(
        uid="u",
        started_at=second(0),
        ended_at=second(100),
        has_reported_end=True,
        stop_requested_at=None,
        intervals=[(second(start), second(end), paid) for start, end, paid in intervals],
    )
    looks = [second(at) for at in (20, 50, 80)]
    found = wrong_bill(
        STORY,
        billed,
        looks=looks,
        witnessed={second(10), second(60)},
        stops=[],
        skew=timedelta(),
        now=second(200),
    )
    assert (problem in " ".join(found)) if problem else found == [], (what, found)
