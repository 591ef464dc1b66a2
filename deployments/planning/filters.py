"""Tells which filter took how many node pools out of the choice, and why.

"Nothing fits" helps nobody. A customer who reads that 9 of 12 pools have no recipe for their accelerator, two
are too small and one is beyond the quota knows what to ask for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deployments.planning.checks import Check, gib
from deployments.planning.offers import Ask, Offer

MOST_REASONS = 5


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A node pool of the provider, whether or not the model can run there."""

    cluster: str
    flavor: str
    region: str
    family: str
    machine_class: str
    unusable: str = ""
    """Why nobody can be given the flavor, such as a number of IPUs that make no partition."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """One filter's work: of `before` pools it dropped some and left the rest to the next."""

    name: str
    before: int
    dropped: int
    left: int
    reasons: tuple[str, ...]
    """The most frequent first, each with its number."""
    blocking: bool = True
    """False: what it would drop may still be deployed, and waits."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def explain_filters(
    ask: Ask, pools: Iterable[Pool], offers: Iterable[Offer], *, refused: str = ""
) -> list[Filter]:
    """Every filter in order, with what it dropped.

    `offers` are the model's, of any recipe. `refused` is why the model itself may not be deployed (weights,
    credentials, terms); empty = it may.
    """
    left = list(pools)
    by_pool: defaultdict[tuple[str, str], list[Offer]] = defaultdict(list)
    for offer in offers:
        by_pool[offer.candidate.cluster, offer.candidate.flavor].append(offer)
    filters = []
    for name, blocking, refusal in _FILTERS:
        reasons: Counter[str] = Counter()
        kept = []
        for pool in left:
            why = refused if name == "credentials" else refusal(ask, pool, by_pool[pool.cluster, pool.flavor])
            if why:
                reasons[why] += 1
            else:
                kept.append(pool)
        filters.append(
            Filter(
                name=name,
                before=len(left),
                dropped=len(left) - len(kept),
                left=len(kept),
                reasons=tuple(f"{count} × {why}" for why, count in reasons.most_common(MOST_REASONS)),
                blocking=blocking or (name == "capacity" and ask.require_capacity),
            )
        )
        left = kept
    return filters


def _hardware(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    return f"{pool.flavor} cannot be had: {pool.unusable}" if pool.unusable else ""


def _recipe(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    if not offers:
        return f"the model has no recipe for {pool.family}"
    precisions = sorted({offer.candidate.shape.precision for offer in offers})
    if not _wanted(ask, offers):
        return f"no recipe in {ask.precision or 'full precision'}, only {', '.join(precisions)}"
    return ""


def _flavor(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    return "" if ask.flavor in (None, pool.flavor) else f"not the flavor {ask.flavor}"


def _region(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    return "" if ask.region in (None, pool.region) else f"in {pool.region}, not in {ask.region}"


def _machine_class(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    return (
        ""
        if ask.machine_class in (None, pool.machine_class)
        else f"{pool.machine_class}, not {ask.machine_class}"
    )


def _memory(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    check = _best(ask, offers, "memory")
    if check is None:
        return ""
    if check.need is None or check.available is None:
        return check.message
    return f"{gib(round(check.need))} needed, {gib(round(check.available))} there ({pool.flavor})"


def _price(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    return "no price today" if _best(ask, offers, "price") else ""


def _quota(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    check = _best(ask, offers, "quota")
    if check is None:
        return ""
    return f"beyond your quota: {check.need:g} {check.unit} of {pool.family} needed, {check.available:g} free"


def _pool_size(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    capacity = min((offer.candidate.pool_capacity for offer in offers), default=0)
    return f"the pool holds {capacity} replicas" if ask.replicas > capacity else ""


def _nodes(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    free = offers[0].candidate.free
    return free.reason if free is not None and not free.matching_nodes else ""


def _capacity(ask: Ask, pool: Pool, offers: Sequence[Offer]) -> str:
    free = offers[0].candidate.free
    if free is None:
        return "the cluster does not answer"
    return "" if free.pods >= ask.replicas else f"{free.pods} of {ask.replicas} replicas have room now"


def _wanted(ask: Ask, offers: Sequence[Offer]) -> list[Offer]:
    """The offers in the precision asked for; if none was, those that are not quantized."""
    return [
        offer
        for offer in offers
        if (
            ask.precision == offer.candidate.shape.precision
            if ask.precision
            else not offer.candidate.is_quantized
        )
    ]


def _best(ask: Ask, offers: Sequence[Offer], name: str) -> Check | None:
    """The failed check of a pool if every offer there fails it, else None."""
    checks = [offer.check(name) for offer in _wanted(ask, offers)]
    return None if any(check.passed for check in checks) else checks[0]


_FILTERS = (
    ("hardware", True, _hardware),
    ("recipe", True, _recipe),
    ("region", True, _region),
    ("machine class", True, _machine_class),
    ("flavor", True, _flavor),
    ("credentials", True, _flavor),  # of the model, not of a pool: told by the caller
    ("memory", True, _memory),
    ("price", True, _price),
    ("pool size", True, _pool_size),
    ("quota", True, _quota),
    ("labels and taints", False, _nodes),
    ("capacity", False, _capacity),
)
