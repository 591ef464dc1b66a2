from dataclasses import replace
from decimal import Decimal
from typing import Any

from deployments.planning.alternatives import find_alternatives
from deployments.planning.offers import Ask, Candidate, is_asked, rank_offers
from tests.deployments.planning.candidates import ASK, GIB, ROOM, candidate, shape


def found(ask: Ask, *candidates: Candidate) -> list[tuple[str, dict[str, Any]]]:
    """Kind and what changes, of every alternative."""
    offers = rank_offers(ask, list(candidates))
    chosen = next((offer for offer in offers if is_asked(offer)), None)
    return [
        (item.kind, {name: new for name, (_, new) in item.changes.items()})
        for item in find_alternatives(ask, offers, chosen)
    ]


def test_other_flavors_come_by_price() -> None:
    cheap, dear = (candidate(name, per_second=Decimal(price)) for name, price in (("b", "2"), ("c", "3")))
    assert found(ASK, candidate("a"), dear, cheap) == [
        ("flavor", {"flavor": "b"}),
        ("flavor", {"flavor": "c"}),
    ]


def test_the_best_of_each_kind_comes_before_more_of_the_same() -> None:
    assert found(
        ASK,
        candidate("a"),
        candidate("b", per_second=Decimal("1")),
        candidate("c", per_second=Decimal("2")),
        candidate("a", cluster="mars", region="mars", per_second=Decimal("3")),
        candidate("a", recipe="rcp_2", shape=shape(precision="int8"), per_second=Decimal("4")),
    ) == [
        ("flavor", {"flavor": "b"}),
        ("region", {"region": "mars"}),
        ("precision", {"precision": "int8"}),
        ("flavor", {"flavor": "c"}),
    ]


def test_what_does_not_fit_is_offered_with_a_shorter_context_or_fewer_requests() -> None:
    ask = replace(ASK, context_length=8192, max_concurrency=64)
    assert found(ask, candidate()) == [
        ("context_length", {"context_length": 768}),
        ("max_concurrency", {"max_concurrency": 6}),
    ]


def test_more_replicas_than_there_are_are_offered_as_fewer() -> None:
    ask = replace(ASK, replicas=6)
    assert found(ask, candidate()) == [("replicas", {"replicas": 3}), ("replicas", {"replicas": 4})]
    assert found(ask, candidate(quota_limit=5, quota_held=1)) == [("replicas", {"replicas": 2})]


def test_nothing_is_offered_that_would_be_refused() -> None:
    assert found(ASK, candidate(device_bytes=GIB // 2), candidate("b", per_second=None)) == []


def test_what_is_had_already_is_no_alternative() -> None:
    assert found(ASK, candidate(free=ROOM)) == []
