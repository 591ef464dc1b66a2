from decimal import Decimal
from typing import Any

from deployments.planning.checks import Check
from deployments.planning.differences import Difference, Settled, find_differences, settle
from deployments.planning.offers import Offer, judge
from tests.deployments.planning.candidates import ASK, GIB, candidate, shape


def offer(**changes: Any) -> Offer:
    return judge(ASK, candidate(**changes))


def differences(**changes: Any) -> list[tuple[str, str, str]]:
    """Field, planned and now, after the candidate changed."""
    planned = settle(offer(), image="runtime:1")
    found = find_differences(planned, offer(**changes), image="runtime:1")
    return [(item.field, item.planned, item.now) for item in found]


def test_a_world_that_stayed_the_same_has_no_differences() -> None:
    assert differences() == []


def test_each_change_is_told_by_its_field() -> None:
    assert differences(per_second=Decimal("0.00002")) == [
        ("price", "0.00001 EUR a second", "0.00002 EUR a second")
    ]
    assert differences(per_second=None) == [("price", "0.00001 EUR a second", "not for sale")]
    assert differences(quota_limit=1) == [("quota", "2 vCPUs to be had", "1 vCPUs to be had")]
    assert differences(shape=shape(precision="bfloat16")) == [
        ("recipe", "runtime:1 in float32", "runtime:1 in bfloat16")
    ]
    assert [field for field, _, _ in differences(device_bytes=GIB)] == ["flavor", "fit"]


def test_room_counts_only_where_it_was_required() -> None:
    assert differences(free=None) == []


def test_a_place_that_closed_and_terms_that_came_are_told_too() -> None:
    planned = settle(offer(), image="runtime:1")
    terms = Check(name="license", passed=False, message="The model is gated now.")
    assert find_differences(planned, None, model_checks=(terms,)) == [
        Difference(field="license", planned="passed", now="failed", message="The model is gated now."),
        Difference(
            field="place",
            planned="open",
            now="closed",
            message="What this plan was made for takes no workloads any more.",
        ),
    ]


def test_what_was_settled_survives_its_way_through_the_database() -> None:
    settled = settle(offer(), image="runtime:1")
    assert Settled.from_json(settled.to_json()) == settled
