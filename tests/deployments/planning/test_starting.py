from datetime import UTC, datetime, timedelta

from deployments.planning.starting import Eta, SeenStart, StartTimes, expect, learn

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def start(queue: float, preparing: float, loading: float) -> SeenStart:
    scheduled = BEGAN + timedelta(seconds=queue)
    started = scheduled + timedelta(seconds=preparing)
    return SeenStart(
        created_at=BEGAN,
        scheduled_at=scheduled,
        started_at=started,
        ready_at=started + timedelta(seconds=loading),
    )


def test_the_parts_of_a_start_are_medians_of_those_seen() -> None:
    starts = [start(1, 10, 20), start(2, 60, 22), start(3, 11, 90)]
    assert learn(starts, measured=5.0) == StartTimes(
        queue=2.0, preparing=11.0, loading=22.0, total=84.0, starts=3
    )


def test_without_a_start_the_providers_figure_stands() -> None:
    assert learn([], measured=5.0) == StartTimes(total=5.0)


def test_a_moment_that_was_not_seen_is_left_out() -> None:
    seen = SeenStart(
        created_at=BEGAN, scheduled_at=None, started_at=None, ready_at=BEGAN + timedelta(seconds=9)
    )
    assert learn([seen], measured=None) == StartTimes(total=9.0, starts=1)


def test_a_node_that_has_to_come_first_adds_its_time() -> None:
    times = StartTimes(total=30.0, starts=2)
    assert expect(times, has_room=True, provisioning=300.0).seconds == 30.0
    assert expect(times, has_room=False, provisioning=300.0) == Eta(
        seconds=330.0,
        queue=None,
        provisioning=300.0,
        preparing=None,
        loading=None,
        source="Median of the last 2 starts with this recipe.",
    )


def test_nobody_can_tell_when_others_give_their_place_back() -> None:
    eta = expect(StartTimes(total=30.0, starts=1), has_room=False, provisioning=0.0)
    assert (eta.seconds, eta.provisioning) == (None, None)
    assert eta.source.startswith("No node is free and none can be added")
