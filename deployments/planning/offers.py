"""Ranks where a model could run: every candidate flavor with its checks, the best first."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

from deployments.planning.capacity import FreeCapacity
from deployments.planning.checks import Check, Who, gib
from deployments.planning.memory import MemoryEstimate, ServingShape, estimate_serving, fits
from deployments.planning.starting import Eta, StartTimes, expect
from marketplace.catalog.precisions import BYTES_PER_VALUE

FULL_PRECISION = 2.0
"""Bytes per value from which a recipe is not called quantized."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What the customer wants to run. None: whichever fits best."""

    replicas: int
    context_length: int
    """Tokens of prompt and answer; 0 for models that do not generate."""
    max_concurrency: int
    flavor: str | None = None
    region: str | None = None
    machine_class: str | None = None
    precision: str | None = None
    require_capacity: bool = False
    """True: refuse it rather than let it wait for a free node."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One recipe on one flavor in one region, with everything known about running the model there."""

    flavor: str
    region: str
    cluster: str
    machine_class: str
    recipe: str
    """Public id."""
    shape: ServingShape
    device_bytes: int
    """Memory of one device; of the host on CPU."""
    devices: int
    """That the flavor has; the shape may use fewer. 1 on CPU."""
    usual_context: int
    """Tokens assumed of a model that does not generate, for which nothing is asked."""
    min_memory_bytes: int
    """The recipe's own lower bound; 0 = none."""
    free: FreeCapacity | None
    """None when the cluster could not be asked."""
    quota_limit: int | None
    """Devices (vCPUs on CPU) that the organization may hold; None = no limit."""
    quota_held: int
    quota_per_replica: int
    """Devices (vCPUs on CPU) that one replica takes."""
    per_second: Decimal | None
    """Price of one replica; None when the price book has none."""
    currency: str
    start: StartTimes
    provisioning_seconds: float
    """To get a node when none is free; 0 = no more nodes can be had."""
    pool_capacity: int
    """Replicas that the pool holds when it is empty."""
    cached_nodes: frozenset[str] = frozenset()
    """Nodes on which this version has started before."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.cluster, self.flavor, self.recipe

    @property
    def memory_bytes(self) -> int:
        """Memory that the model may use, of all devices that it is spread over."""
        return self.device_bytes * self.shape.devices

    @property
    def is_quantized(self) -> bool:
        return BYTES_PER_VALUE[self.shape.precision] < FULL_PRECISION

    def estimate(self, ask: Ask) -> MemoryEstimate:
        """Memory for what is asked."""
        return estimate_serving(
            self.shape,
            context_length=ask.context_length or self.usual_context,
            concurrency=ask.max_concurrency,
        )


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A candidate with the outcome of its checks."""

    candidate: Candidate
    ask: Ask
    checks: tuple[Check, ...]
    estimate: MemoryEstimate = field(repr=False)

    @cached_property
    def accepted(self) -> bool:
        return all(check.passed for check in self.checks if check.blocking)

    @cached_property
    def has_room(self) -> bool:
        return all(check.passed for check in self.checks if check.name == "capacity")

    @cached_property
    def eta(self) -> Eta:
        candidate = self.candidate
        free = candidate.free
        return expect(
            candidate.start,
            has_room=self.has_room,
            provisioning=candidate.provisioning_seconds,
            cached_nodes=len(candidate.cached_nodes.intersection(free.nodes)) if free else 0,
        )

    @property
    def eta_seconds(self) -> float | None:
        """From the request to the first answer; None when nobody can tell."""
        return self.eta.seconds

    def check(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)


def judge(ask: Ask, candidate: Candidate) -> Offer:
    """The candidate with its checks, each with its numbers."""
    estimate = candidate.estimate(ask)
    checks = (
        _memory(ask, candidate, estimate),
        _price(candidate),
        _quota(ask, candidate),
        _capacity(ask, candidate),
    )
    return Offer(candidate=candidate, ask=ask, checks=checks, estimate=estimate)


def rank_offers(ask: Ask, candidates: list[Candidate]) -> list[Offer]:
    """Every candidate as an offer: what passes first, then with room, then cheapest, then soonest.

    Of the same flavor the more exact recipe comes first: nobody is given a quantized model unasked.
    """
    return sorted((judge(ask, candidate) for candidate in candidates), key=rank)


def rank(offer: Offer) -> tuple[bool, float, bool, Decimal, float, float, str, str]:
    """The order of offers, the best first; of those that do not fit the one that comes closest."""
    candidate = offer.candidate
    memory = offer.check("memory")
    missing = 0.0 if memory.passed else (memory.need or 0.0) / max(1.0, memory.available or 0.0)
    return (
        not offer.accepted,
        missing,
        not offer.has_room,
        candidate.per_second if candidate.per_second is not None else Decimal("Infinity"),
        -BYTES_PER_VALUE[candidate.shape.precision],
        offer.eta_seconds if offer.eta_seconds is not None else float("inf"),
        candidate.flavor,
        candidate.region,
    )


def is_asked(offer: Offer) -> bool:
    """Whether an offer is of the kind that was asked for: quantized only if that was said."""
    ask, candidate = offer.ask, offer.candidate
    return (
        ask.flavor in (None, candidate.flavor)
        and ask.region in (None, candidate.region)
        and ask.machine_class in (None, candidate.machine_class)
        and (
            not candidate.is_quantized
            if ask.precision is None
            else ask.precision == candidate.shape.precision
        )
    )


def _memory(ask: Ask, candidate: Candidate, estimate: MemoryEstimate) -> Check:
    passed = "weights" not in estimate.unknown and fits(
        estimate, device_bytes=candidate.device_bytes, min_bytes=candidate.min_memory_bytes
    )
    need = max(estimate.high_per_device, -(-candidate.min_memory_bytes // estimate.devices))
    return Check(
        name="memory",
        passed=passed,
        message=_memory_message(candidate, estimate, need=need, passed=passed),
        need=need,
        available=candidate.device_bytes,
        unit="bytes",
        who=None if passed else Who.CUSTOMER if "weights" not in estimate.unknown else Who.PROVIDER,
        remedy="" if passed else _memory_remedy(ask, candidate, estimate),
    )


def _memory_message(candidate: Candidate, estimate: MemoryEstimate, *, need: int, passed: bool) -> str:
    if "weights" in estimate.unknown:
        return "The number of parameters is not known, so nobody can say whether the model fits."
    sizes = f"needs up to {gib(need)}, {candidate.flavor} has {gib(candidate.device_bytes)}"
    if candidate.devices > 1:
        there = gib(candidate.device_bytes)
        sizes = f"each of {estimate.devices} devices needs up to {gib(need)} and has {there}"
        if estimate.devices < candidate.devices:
            sizes += (
                f"; {candidate.devices - estimate.devices} of {candidate.flavor} stay unused by this recipe"
            )
    return f"Fits: {sizes}." if passed else f"Does not fit: {sizes}."


def _memory_remedy(ask: Ask, candidate: Candidate, estimate: MemoryEstimate) -> str:
    if "weights" in estimate.unknown:
        return "Ask the provider's staff to import the model again, so that its files are counted."
    if estimate.largest_part == "KV cache" and estimate.weights < candidate.memory_bytes:
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


def _quota(ask: Ask, candidate: Candidate) -> Check:
    limit, held, need = (
        candidate.quota_limit,
        candidate.quota_held,
        candidate.quota_per_replica * ask.replicas,
    )
    family = candidate.shape.family
    unit = "vCPUs" if family == "cpu" else "devices"
    if limit is None:
        return Check(name="quota", passed=True, message="No quota limits this.", need=need, unit=unit)
    free = max(0, limit - held)
    passed = need <= free
    return Check(
        name="quota",
        passed=passed,
        message=f"Needs {need} {unit} of {family}; {free} of {limit} are free.",
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
            name="capacity",
            passed=False,
            message=message,
            who=Who.PROVIDER,
            blocking=ask.require_capacity,
            unit="replicas",
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
        remedy="" if passed else _wait_or_not(ask),
        blocking=ask.require_capacity,
    )


def _wait_or_not(ask: Ask) -> str:
    if ask.require_capacity:
        return "Leave require_capacity out, and it starts by itself when capacity is free."
    return "The deployment would wait and start by itself when capacity is free."
