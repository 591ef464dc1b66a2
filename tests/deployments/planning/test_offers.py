from decimal import Decimal
from typing import Any

from deployments.planning.capacity import FreeCapacity
from deployments.planning.checks import Who
from deployments.planning.memory import MemoryEstimate
from deployments.planning.offers import Ask, Candidate, rank_offers

GIB = 2**30
ASK = Ask(replicas=1, context_length=2048, max_concurrency=4)
ROOM = FreeCapacity(pods=3, matching_nodes=1, reason="room for 3 more")
FULL = FreeCapacity(pods=0, matching_nodes=1, reason="cpu 2 cores needed, 0 cores free")


def candidate(flavor: str = "small", **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "flavor": flavor,
        "region": "local",
        "cluster": "local",
        "family": "cpu",
        "memory_bytes": 4 * GIB,
        "estimate": MemoryEstimate(weights=GIB, kv_cache=GIB // 2, activations=0, framework=GIB // 2),
        "min_memory_bytes": 0,
        "free": ROOM,
        "quota_limit": None,
        "quota_held": 0,
        "quota_need": 2,
        "per_second": Decimal("0.00001"),
        "currency": "EUR",
        "start_seconds": 10.0,
        "provisioning_seconds": 300.0,
        "pool_capacity": 4,
    }
    return Candidate(**values | changes)


def failed(**changes: Any) -> list[tuple[str, Who | None, bool]]:
    (offer,) = rank_offers(ASK, [candidate(**changes)])
    return [(check.name, check.who, check.blocking) for check in offer.checks if not check.passed]


def test_a_candidate_that_passes_everything_is_accepted() -> None:
    (offer,) = rank_offers(ASK, [candidate()])
    assert offer.accepted
    assert offer.eta_seconds == 10.0


def test_too_little_memory_is_the_customers_to_change() -> None:
    assert failed(memory_bytes=2 * GIB) == [("memory", Who.CUSTOMER, True)]


def test_the_high_end_of_the_estimate_must_fit() -> None:
    assert failed(memory_bytes=2 * GIB + 1) == [("memory", Who.CUSTOMER, True)]
    assert failed(memory_bytes=int(2 * GIB * 1.15) + 1) == []


def test_a_large_cache_suggests_a_shorter_context() -> None:
    cache = MemoryEstimate(weights=GIB, kv_cache=8 * GIB, activations=0, framework=0)
    (offer,) = rank_offers(ASK, [candidate(estimate=cache)])
    assert offer.checks[0].remedy.startswith("Ask for a shorter context than 2048 tokens")


def test_no_price_means_not_sold() -> None:
    assert failed(per_second=None) == [("price", Who.PROVIDER, True)]


def test_quota_counts_what_is_held() -> None:
    assert failed(quota_limit=4, quota_held=2) == []
    assert failed(quota_limit=4, quota_held=3) == [("quota", Who.PROVIDER, True)]


def test_a_full_cluster_does_not_refuse_but_adds_provisioning_to_the_eta() -> None:
    (offer,) = rank_offers(ASK, [candidate(free=FULL)])
    assert offer.accepted
    assert not offer.has_room
    assert offer.eta_seconds == 310.0


def test_nobody_can_tell_when_a_place_is_given_back() -> None:
    (offer,) = rank_offers(ASK, [candidate(free=FULL, provisioning_seconds=0.0)])
    assert offer.accepted
    assert offer.eta_seconds is None


def test_more_than_the_pool_ever_holds_is_refused() -> None:
    many = Ask(replicas=5, context_length=2048, max_concurrency=4)
    (offer,) = rank_offers(many, [candidate()])
    assert not offer.accepted
    assert offer.checks[-1].message == "5 replicas asked; all of small in local holds 4 when it is empty."


def test_a_silent_cluster_is_said_and_not_taken_for_full() -> None:
    assert failed(free=None) == [("capacity", Who.PROVIDER, False)]


def test_offers_are_ranked_by_fit_then_room_then_price_then_start() -> None:
    offers = rank_offers(
        ASK,
        [
            candidate("too-small", memory_bytes=GIB, per_second=Decimal("0.000001")),
            candidate("cheap-but-full", free=FULL, per_second=Decimal("0.000002")),
            candidate("dear", per_second=Decimal("0.00009")),
            candidate("cheap-and-slow", start_seconds=60.0),
            candidate("cheap-and-quick"),
        ],
    )
    assert [offer.candidate.flavor for offer in offers] == [
        "cheap-and-quick",
        "cheap-and-slow",
        "dear",
        "cheap-but-full",
        "too-small",
    ]
