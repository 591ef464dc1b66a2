"""The checks of `make chaos` must be able to fail."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.chaos.facts import Replica, billed_outages, unrecorded_containers, wrong_bills

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


def replica(*intervals, started=0, ended=60):
    return Replica(
        uid="pod-1",
        resource="dep_1",
        started_at=None if started is None else at(started),
        ended_at=None if ended is None else at(ended),
        intervals=tuple((at(lower), at(upper)) for lower, upper in intervals),
    )


@pytest.mark.parametrize(
    ("case", "given", "sentences"),
    [
        ("tiled in two stretches", replica((0, 20), (20, 60)), 0),
        ("alive, the past recorded", replica((0, 20), ended=None), 0),
        ("never started", replica(started=None), 0),
        ("a gap", replica((0, 20), (30, 60)), 1),
        ("an overlap", replica((0, 30), (20, 60)), 1),
        ("ended without its last stretch", replica((0, 20)), 1),
        ("ended with nothing recorded", replica(), 1),
        ("recorded beyond its end", replica((0, 70)), 1),
        ("recorded from before its start", replica((-5, 60)), 1),
        ("usage without a start", replica((0, 60), started=None), 1),
    ],
)
def test_it_finds_lost_and_doubled_usage(case, given, sentences):
    assert len(wrong_bills([given])) == sentences, case


@pytest.mark.parametrize(
    ("case", "printed", "sentences"),
    [
        ("recorded as it was", {"pod-1": at(1)}, 0),
        ("another program, without a time", {"pod-1": None}, 0),
        ("recorded a minute late", {"pod-1": at(-60)}, 1),
        ("ran and is not on record", {"pod-1": at(0), "pod-2": at(0)}, 1),
    ],
)
def test_it_finds_containers_that_nobody_recorded(case, printed, sentences):
    assert len(unrecorded_containers([replica((0, 60))], printed)) == sentences, case


def test_it_finds_a_restart_that_is_billed():
    bill = Replica(
        uid="pod-1",
        resource="dep_1",
        started_at=at(0),
        ended_at=at(60),
        intervals=((at(0), at(60)),),
        billed=((at(5), at(20)), (at(32), at(60))),
    )
    assert billed_outages([bill], {"pod-1": [at(30)]}) == []
    assert len(billed_outages([bill], {"pod-1": [at(30), at(40)]})) == 1
