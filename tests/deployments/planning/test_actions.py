from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from deployments.planning.actions import NOTHING_WRONG, Situation, Update, find_actions
from tests.deployments.planning.candidates import ASK, FULL, GIB, ROOM, candidate, shape

HOUR = Decimal(3600)
WISHED = replace(ASK, flavor="small", region="local")


def situation(reason: str, **changes: Any) -> Situation:
    values: dict[str, Any] = {
        "reason": reason,
        "retry_helps": True,
        "ask": WISHED,
        "ready_replicas": 0,
        "per_second": Decimal("0.00001"),
        "candidates": [candidate("small", free=FULL), candidate("large", per_second=Decimal("0.00003"))],
    }
    return Situation(**values | changes)


def ids(reason: str, **changes: Any) -> list[str]:
    return [action.id for action in find_actions(situation(reason, **changes))]


def test_without_a_place_it_may_move_to_where_there_is_room_or_wait() -> None:
    move, wait, pause = find_actions(situation("NoCapacity"))
    assert (move.id, move.change, move.effect) == ("flavor:large", {"flavor": "large"}, "free now: 3")
    assert (move.per_hour_before, move.per_hour_after) == (HOUR / 100_000, 3 * HOUR / 100_000)
    assert (wait.id, wait.change, wait.eta_seconds) == ("wait", {}, 310.0)
    assert (pause.id, pause.per_hour_after) == ("pause", 0)


def test_nobody_is_sent_to_where_there_is_no_room_either() -> None:
    full = [candidate("small", free=FULL), candidate("large", free=FULL)]
    assert ids("NoCapacity", candidates=full) == ["wait", "pause"]


def test_replicas_that_run_already_may_be_enough() -> None:
    ask = replace(WISHED, replicas=3)
    actions = find_actions(
        situation("NoCapacity", ask=ask, ready_replicas=2, candidates=[candidate("small", free=FULL)])
    )
    fewer = actions[0]
    assert (fewer.id, fewer.effect) == ("replicas:2", "2 run already")
    assert (fewer.per_hour_before, fewer.per_hour_after) == (3 * HOUR / 100_000, 2 * HOUR / 100_000)


def test_an_update_without_room_is_taken_back_or_replaces_first_but_is_never_shrunk() -> None:
    ask = replace(WISHED, replicas=2)
    update = Update(serving=1, per_second=Decimal("0.00002"), makes_room=True)
    full = [candidate("small", free=FULL)]
    back, first, wait = find_actions(
        situation("NoCapacity", ask=ask, ready_replicas=2, candidates=full, update=update)
    )
    assert (back.id, back.change, back.effect) == ("revision:1", {}, "it serves now, and goes on")
    assert (back.per_hour_before, back.per_hour_after) == (2 * HOUR / 100_000, 4 * HOUR / 100_000)
    assert (first.id, first.change, first.per_hour_after) == (
        "strategy:recreate",
        {"strategy": "recreate"},
        2 * HOUR / 100_000,
    )
    assert wait.id == "wait"


@pytest.mark.parametrize(("makes_room", "ready"), [(False, 2), (True, 1)])
def test_nothing_is_stopped_that_would_not_make_room_enough(makes_room: bool, ready: int) -> None:
    update = Update(serving=1, per_second=Decimal("0.00001"), makes_room=makes_room)
    stuck = {"ask": replace(WISHED, replicas=2), "candidates": [candidate("small", free=FULL)]}
    assert ids("NoCapacity", ready_replicas=ready, update=update, **stuck) == ["revision:1", "wait", "pause"]


def test_a_model_out_of_memory_gets_more_of_it_or_less_to_do() -> None:
    candidates = [
        candidate("small", free=ROOM),
        candidate("hardly-larger", device_bytes=int(4.5 * GIB)),
        candidate("large", device_bytes=8 * GIB, per_second=Decimal("0.00003")),
    ]
    actions = find_actions(situation("OutOfMemory", retry_helps=False, candidates=candidates))
    assert [action.id for action in actions] == ["flavor:large", "context_length:1024", "max_concurrency:2"]
    assert actions[1].effect == "needs 0.2 GiB less of 4.0 GiB"


def test_beyond_the_quota_it_may_shrink_or_ask_for_more() -> None:
    own = candidate("small", quota_limit=5, quota_held=2)
    assert ids("QuotaExceeded", ask=replace(WISHED, replicas=2), candidates=[own]) == [
        "replicas:1",
        "quota:6",
        "pause",
    ]


def test_what_the_provider_has_to_mend_can_at_least_be_paused() -> None:
    assert ids("ImageNotFound", retry_helps=False) == ["pause"]
    assert ids("RegistryUnreachable") == ["wait", "pause"]


@pytest.mark.parametrize("reason", sorted(NOTHING_WRONG))
def test_nothing_is_offered_for_what_passes_by_itself(reason: str) -> None:
    assert ids(reason) == []


def test_a_quantized_recipe_is_no_way_out_that_nobody_asked_for() -> None:
    small = [candidate("small", free=FULL), candidate("large", shape=shape(precision="int8"))]
    assert ids("NoCapacity", candidates=small) == ["wait", "pause"]
