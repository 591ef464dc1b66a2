"""What else could be had: other flavors, regions, precisions, a shorter context, fewer replicas.

Each alternative is an ask that would be accepted, with what it changes and what it costs, so that it can be
planned, or applied to a deployment that waits, by one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from deployments.planning.memory import longest_context, most_concurrency
from deployments.planning.offers import Ask, Candidate, Offer, judge, rank

MOST = 6


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """An offer for a somewhat different ask."""

    offer: Offer
    kind: str
    """flavor, region, precision, context_length, max_concurrency or replicas: what is given up."""
    changes: dict[str, tuple[Any, Any]]
    """Field of the ask -> (as planned, in its place)."""

    @property
    def title(self) -> str:
        candidate = self.offer.candidate
        match self.kind:
            case "region":
                return f"{candidate.flavor} in {candidate.region}"
            case "precision":
                return f"{candidate.shape.precision} on {candidate.flavor} in {candidate.region}"
            case "context_length":
                return f"A context of {self.offer.ask.context_length} tokens on {candidate.flavor}"
            case "max_concurrency":
                return f"{self.offer.ask.max_concurrency} request(s) at once on {candidate.flavor}"
            case "replicas":
                return f"{self.offer.ask.replicas} replica(s) on {candidate.flavor}"
            case _:
                return f"{candidate.flavor} in {candidate.region}"


def find_alternatives(ask: Ask, offers: Sequence[Offer], chosen: Offer | None) -> list[Alternative]:
    """Up to MOST accepted alternatives: the best of each kind first, then the best of the rest.

    `offers` are all of the model's. What is compared with is `chosen`, or the ask where nothing was chosen.
    """
    found = sorted(
        (
            alternative
            for alternative in _all(ask, offers, chosen)
            if alternative.offer.accepted and alternative.changes
        ),
        key=lambda alternative: (rank(alternative.offer), len(alternative.changes)),
    )
    kinds: set[str] = set()
    best: list[Alternative] = []
    rest: list[Alternative] = []
    for alternative in found:
        (rest if alternative.kind in kinds else best).append(alternative)
        kinds.add(alternative.kind)
    return [*best, *rest][:MOST]


def total_per_second(offer: Offer) -> Decimal | None:
    """What all replicas of an offer cost a second; None when they are not for sale."""
    price = offer.candidate.per_second
    return None if price is None else price * offer.ask.replicas


def _all(ask: Ask, offers: Sequence[Offer], chosen: Offer | None) -> Iterator[Alternative]:
    compared = chosen.candidate if chosen else None
    for offer in offers:
        if offer is not chosen:
            yield _alternative(ask, offer, compared)
    # With fewer replicas, or less at once, on what was asked for: nobody has to move.
    for candidate in _as_asked(ask, offers, chosen):
        for variant in _smaller(ask, candidate):
            yield _alternative(ask, judge(variant, candidate), compared)


def _as_asked(ask: Ask, offers: Sequence[Offer], chosen: Offer | None) -> Iterable[Candidate]:
    if chosen is not None:
        return () if chosen.accepted and chosen.has_room else (chosen.candidate,)
    return tuple(
        offer.candidate
        for offer in offers
        if ask.flavor in (None, offer.candidate.flavor) and ask.region in (None, offer.candidate.region)
    )


def _smaller(ask: Ask, candidate: Candidate) -> Iterator[Ask]:
    if candidate.shape.facts.generates and not judge(ask, candidate).check("memory").passed:
        context = longest_context(
            candidate.shape,
            concurrency=ask.max_concurrency,
            device_bytes=candidate.device_bytes,
            below=ask.context_length,
        )
        if context:
            yield replace(ask, context_length=context)
        concurrency = most_concurrency(
            candidate.shape,
            context_length=ask.context_length,
            device_bytes=candidate.device_bytes,
            below=ask.max_concurrency,
        )
        if concurrency:
            yield replace(ask, max_concurrency=concurrency)
    replicas = _most_replicas(candidate)
    if 0 < replicas < ask.replicas:
        yield replace(ask, replicas=replicas)
    free = candidate.free.pods if candidate.free else 0
    if 0 < free < min(replicas, ask.replicas):
        yield replace(ask, replicas=free)


def _most_replicas(candidate: Candidate) -> int:
    """Replicas that pool and quota have room for."""
    if candidate.quota_limit is None:
        return candidate.pool_capacity
    left = max(0, candidate.quota_limit - candidate.quota_held)
    return min(candidate.pool_capacity, left // max(1, candidate.quota_per_replica))


def _alternative(ask: Ask, offer: Offer, compared: Candidate | None) -> Alternative:
    candidate = offer.candidate
    before = {
        "flavor": compared.flavor if compared else ask.flavor,
        "region": compared.region if compared else ask.region,
        "precision": compared.shape.precision if compared else ask.precision,
        "context_length": ask.context_length,
        "max_concurrency": ask.max_concurrency,
        "replicas": ask.replicas,
    }
    after = {
        "flavor": candidate.flavor,
        "region": candidate.region,
        "precision": candidate.shape.precision,
        "context_length": offer.ask.context_length,
        "max_concurrency": offer.ask.max_concurrency,
        "replicas": offer.ask.replicas,
    }
    changes = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    if not candidate.is_quantized and ask.precision is None:
        changes.pop("precision", None)  # whichever full precision the accelerator has: nothing is given up
    kind = next((name for name in _GIVEN_UP if name in changes), "flavor")
    return Alternative(offer=offer, kind=kind, changes=changes)


_GIVEN_UP = ("context_length", "max_concurrency", "replicas", "precision", "region", "flavor")
"""What an alternative is named after, if it changes several things."""
