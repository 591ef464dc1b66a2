"""Lines of a container are not believed: what is no event of ours is skipped, and never an obstacle."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from deployments.reconcile.reading import cleaned
from runtimes.contract import EVENT_PREFIX, parse_event

EVENT = {"type": "progress", "job": "ftj_1", "at": "2026-01-01T00:00:00+00:00", "step": 3}


def read(**changes: Any) -> dict[str, Any] | None:
    return cleaned(parse_event(EVENT_PREFIX + json.dumps({**EVENT, **changes})))


def test_an_event_is_read_with_its_time() -> None:
    assert read(loss=0.5) == {**EVENT, "loss": 0.5, "at": datetime(2026, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "other"},
        {"type": ["progress"]},
        {"type": None},
        {"step": -1},
        {"step": True},
        {"step": 2**31},
        {"step": "3"},
        {"at": "yesterday"},
        {"at": "2026-01-01T00:00:00"},
    ],
)
def test_what_is_no_event_of_ours_is_skipped(changes: dict[str, Any]) -> None:
    assert read(**changes) is None


def test_values_that_the_database_cannot_hold_are_left_out() -> None:
    event = read(loss=10**400, tokens=True, message="a\x00b\ud800", parts=[1, {"x\x00": 2**63}])
    assert event is not None
    assert (event["loss"], event["tokens"], event["message"]) == (None, True, "ab?")
    assert event["parts"] == [1, {"x": None}]


def test_endless_nesting_is_skipped() -> None:
    deep = "[" * 900 + "]" * 900
    line = EVENT_PREFIX + json.dumps(EVENT)[:-1] + f', "parts": {deep}}}'
    assert cleaned(parse_event(line)) is None
