from dataclasses import replace
from decimal import Decimal
from typing import Any

from deployments.planning.checks import Who
from deployments.planning.offers import Ask, is_asked, rank_offers
from deployments.planning.starting import StartTimes
from tests.deployments.planning.candidates import ASK, FULL, GIB, candidate, shape


def failed(**changes: Any) -> list[tuple[str, Who | None, bool]]:
    (offer,) = rank_offers(ASK, [candidate(**changes)])
    return [(check.name, check.who, check.blocking) for check in offer.checks if not check.passed]


def test_a_candidate_that_passes_everything_is_accepted() -> None:
    (offer,) = rank_offers(ASK, [candidate()])
    assert offer.accepted
    assert offer.eta_seconds == 10.0


def test_too_little_memory_is_the_customers_to_change() -> None:
    assert failed(device_bytes=GIB) == [("memory", Who.CUSTOMER, True)]


def test_the_high_end_of_the_estimate_must_fit() -> None:
    high = candidate().estimate(ASK).high
    assert failed(device_bytes=high - 1) == [("memory", Who.CUSTOMER, True)]
    assert failed(device_bytes=high) == []


def test_a_model_of_unknown_size_fits_nowhere() -> None:
    assert failed(shape=shape(parameters=0), device_bytes=1000 * GIB) == [("memory", Who.PROVIDER, True)]


def test_an_engine_that_uses_one_device_is_given_the_memory_of_one() -> None:
    (offer,) = rank_offers(ASK, [candidate("metal", devices=8, device_bytes=GIB)])
    assert offer.check("memory").message.endswith("; 7 of metal stay unused by this recipe.")


def test_a_large_cache_suggests_a_shorter_context() -> None:
    (offer,) = rank_offers(ASK, [candidate(shape=shape(kv_heads=60))])
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
            candidate("too-small", device_bytes=GIB, per_second=Decimal("0.000001")),
            candidate("cheap-but-full", free=FULL, per_second=Decimal("0.000002")),
            candidate("dear", per_second=Decimal("0.00009")),
            candidate("cheap-and-slow", start=StartTimes(total=60.0)),
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


def test_nothing_waits_that_asked_for_room_now() -> None:
    (offer,) = rank_offers(replace(ASK, require_capacity=True), [candidate(free=FULL)])
    assert not offer.accepted
    assert offer.check("capacity").remedy.startswith("Leave require_capacity out")


def test_nobody_gets_a_quantized_model_unasked() -> None:
    exact = candidate(recipe="rcp_exact", shape=shape(precision="bfloat16"))
    small = candidate(recipe="rcp_small", shape=shape(precision="int8"))
    offers = rank_offers(ASK, [small, exact])
    assert [(offer.candidate.recipe, is_asked(offer)) for offer in offers] == [
        ("rcp_exact", True),
        ("rcp_small", False),
    ]
    asked = rank_offers(replace(ASK, precision="int8"), [small, exact])
    assert [offer.candidate.recipe for offer in asked if is_asked(offer)] == ["rcp_small"]


def test_of_those_that_do_not_fit_the_one_that_comes_closest_is_first() -> None:
    offers = rank_offers(
        ASK, [candidate("tiny", device_bytes=GIB // 2), candidate("nearly", device_bytes=GIB)]
    )
    assert [offer.candidate.flavor for offer in offers] == ["nearly", "tiny"]
