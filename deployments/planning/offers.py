"""Ranks where a model could run: every candidate flavor with its checks, the best first."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from deployments.planning.capacity import FreeCapacity
from deployments.planning.checks import Check, Who, gib
from deployments.planning.memory import MemoryEstimate


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What the customer wants to run."""

    replicas: int
    context_length: int
    """Tokens of prompt and answer; 0 for models that do not generate."""
    max_concurrency: int


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One flavor in one region, with everything known about running the model there."""

    flavor: str
    region: str
    cluster: str
    family: str
    memory_bytes: int
    """Memory that the model may use: of the accelerators together, or of the host on CPU."""
    estimate: MemoryEstimate
    min_memory_bytes: int
    """The recipe's own lower bound; 0 = none."""
    free: FreeCapacity | None
    """None when the cluster could not be asked."""
    quota_limit: int | None
    """Devices (vCPUs on CPU) that the organization may hold; None = no limit."""
    quota_held: int
    quota_need: int
    """Devices (vCPUs on CPU) that all replicas together take."""
    per_second: Decimal | None
    """Price of one replica; None when the price book has none."""
    currency: str
    start_seconds: float | None
    """How long a start took before, or None when none was measured."""
    provisioning_seconds: float
    """To get a node when none is free; 0 = no more nodes can be had."""
    pool_capacity: int
    """Replicas that the pool holds when it is empty."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A candidate with the outcome of its checks."""

    candidate: Candidate
    checks: tuple[Check, ...]

    @property
    def accepted(self) -> bool:
        return all(check.passed for check in self.checks if check.blocking)

    @property
    def eta_seconds(self) -> float | None:
        """From the request to the first answer; None when nobody can tell."""
        start, provisioning = self.candidate.start_seconds, self.candidate.provisioning_seconds
        if start is None or (not self.has_room and not provisioning):
            return None  # never started here yet, or waiting for others to give their place back
        return start if self.has_room else start + provisioning

    @property
    def has_room(self) -> bool:
        return all(check.passed for check in self.checks if check.name == "capacity")


def rank_offers(ask: Ask, candidates: list[Candidate]) -> list[Offer]:
    """Every candidate as an offer: what passes first, then with room, then cheapest, then soonest."""
    offers = [Offer(candidate=candidate, checks=_checks(ask, candidate)) for candidate in candidates]
    return sorted(offers, key=_rank)


def _rank(offer: Offer) -> tuple[bool, bool, Decimal, float, str, str]:
    candidate = offer.candidate
    return (
        not offer.accepted,
        not offer.has_room,
        candidate.per_second if candidate.per_second is not None else Decimal("Infinity"),
        offer.eta_seconds if offer.eta_seconds is not None else float("inf"),
        candidate.flavor,
        candidate.region,
    )


def _checks(ask: Ask, candidate: Candidate) -> tuple[Check, ...]:
    return (
        _memory(ask, candidate),
        _price(candidate),
        _quota(candidate),
        _capacity(ask, candidate),
    )


def _memory(ask: Ask, candidate: Candidate) -> Check:
    need = max(candidate.estimate.high, candidate.min_memory_bytes)
    passed = need <= candidate.memory_bytes
    sizes = f"needs up to {gib(need)}, {candidate.flavor} has {gib(candidate.memory_bytes)}"
    return Check(
        name="memory",
        passed=passed,
        message=f"Fits: {sizes}." if passed else f"Does not fit: {sizes}.",
        need=need,
        available=candidate.memory_bytes,
        unit="bytes",
        who=None if passed else Who.CUSTOMER,
        remedy="" if passed else _memory_remedy(ask, candidate),
    )


def _memory_remedy(ask: Ask, candidate: Candidate) -> str:
    if candidate.estimate.largest_part == "KV cache" and candidate.estimate.weights < candidate.memory_bytes:
        return (
            f"Ask for a shorter context than {ask.context_length} tokens, or for fewer than "
            f"{ask.max_concurrency} requests at once, or take a flavor with more memory."
        )
    return "Take a flavor with more memory."


def _price(candidate: Candidate) -> Check:
    passed = candidate.per_second is not None
    where = f"{candidate.flavor} in {candidate.region}"
    return Check(
        name="price",
        passed=passed,
        message=f"{where} has a price." if passed else f"{where} has no price today, so it is not sold.",
        who=None if passed else Who.PROVIDER,
        remedy="" if passed else "Take another flavor or region, or ask the provider.",
    )


def _quota(candidate: Candidate) -> Check:
    limit, held, need = candidate.quota_limit, candidate.quota_held, candidate.quota_need
    unit = "vCPUs" if candidate.family == "cpu" else "devices"
    if limit is None:
        return Check(name="quota", passed=True, message="No quota limits this.", need=need, unit=unit)
    free = max(0, limit - held)
    passed = need <= free
    return Check(
        name="quota",
        passed=passed,
        message=f"Needs {need} {unit} of {candidate.family}; {free} of {limit} are free.",
        need=need,
        available=free,
        unit=unit,
        who=None if passed else Who.PROVIDER,
        remedy="" if passed else "Delete or pause a deployment, or ask the provider for a higher quota.",
    )


def _capacity(ask: Ask, candidate: Candidate) -> Check:
    free = candidate.free
    if ask.replicas > candidate.pool_capacity:
        return Check(
            name="capacity",
            passed=False,
            message=f"{ask.replicas} replicas asked; all of {candidate.flavor} in {candidate.region} holds "
            f"{candidate.pool_capacity} when it is empty.",
            need=ask.replicas,
            available=candidate.pool_capacity,
            unit="replicas",
            who=Who.CUSTOMER,
            remedy=f"Ask for at most {candidate.pool_capacity} replicas, or take another flavor or region.",
        )
    if free is None:
        message = f"The cluster of {candidate.region} does not answer, so free capacity is unknown."
        return Check(
            name="capacity", passed=False, message=message, who=Who.PROVIDER, blocking=False, unit="replicas"
        )
    passed = ask.replicas <= free.pods
    return Check(
        name="capacity",
        passed=passed,
        message=f"{ask.replicas} replica(s) asked; {free.reason}.",
        need=ask.replicas,
        available=free.pods,
        unit="replicas",
        who=None if passed else Who.PROVIDER,
        remedy="" if passed else "The deployment would wait and start by itself when capacity is free.",
        blocking=False,
    )
