"""What of an accepted plan no longer holds.

A deployment made from a plan gets what the plan said, at its price, or nothing: if anything that the customer
decided by has changed since, the deployment is refused with the differences, field by field.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Self

from deployments.planning.checks import Check, gib
from deployments.planning.offers import Offer


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a customer decides by when they accept a plan."""

    per_second: str
    currency: str
    image: str
    precision: str
    devices: int
    device_bytes: int
    context_length: int
    max_concurrency: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(**value)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that was planned and is no longer so."""

    field: str
    """price, recipe, flavor, fit, quota, capacity, terms or place."""
    planned: str
    now: str
    message: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def settle(offer: Offer, *, image: str) -> Settled:
    """What an offer settles."""
    candidate = offer.candidate
    return Settled(
        per_second=_digits(candidate.per_second),
        currency=candidate.currency,
        image=image,
        precision=candidate.shape.precision,
        devices=candidate.devices,
        device_bytes=candidate.device_bytes,
        context_length=offer.ask.context_length,
        max_concurrency=offer.ask.max_concurrency,
    )


def find_differences(
    planned: Settled, offer: Offer | None, *, image: str = "", model_checks: tuple[Check, ...] = ()
) -> list[Difference]:
    """Everything that changed since `planned`. `offer` is the same place now; None: it takes nothing more.

    `model_checks` are those of the model itself, such as its terms.
    """
    found = [
        Difference(field=check.name, planned="passed", now="failed", message=check.message)
        for check in model_checks
        if check.blocking and not check.passed
    ]
    if offer is None:
        message = "What this plan was made for takes no workloads any more."
        return [*found, Difference(field="place", planned="open", now="closed", message=message)]
    now = settle(offer, image=image)
    if (planned.per_second, planned.currency) != (now.per_second, now.currency):
        found.append(_price(planned, now))
    if (planned.image, planned.precision) != (now.image, now.precision):
        found.append(
            Difference(
                field="recipe",
                planned=f"{planned.image} in {planned.precision}",
                now=f"{now.image} in {now.precision}",
                message="The provider changed how this model runs on this flavor.",
            )
        )
    if (planned.devices, planned.device_bytes) != (now.devices, now.device_bytes):
        found.append(
            Difference(
                field="flavor",
                planned=f"{planned.devices} × {gib(planned.device_bytes)}",
                now=f"{now.devices} × {gib(now.device_bytes)}",
                message="The provider changed this flavor.",
            )
        )
    return [*found, *_failed(offer)]


_FIELDS = {"memory": "fit", "quota": "quota", "capacity": "capacity"}
"""Checks that passed when the plan was accepted -> the field they are told as. Prices are compared above."""


def _failed(offer: Offer) -> list[Difference]:
    return [
        Difference(
            field=_FIELDS[check.name],
            planned=f"{check.need:g} {check.unit} to be had" if check.need is not None else "to be had",
            now=f"{check.available:g} {check.unit} to be had" if check.available is not None else "unknown",
            message=check.message,
        )
        for check in offer.checks
        if check.blocking and not check.passed and check.name in _FIELDS
    ]


def _price(planned: Settled, now: Settled) -> Difference:
    after = f"{now.per_second} {now.currency} a second" if now.per_second else "not for sale"
    return Difference(
        field="price",
        planned=f"{planned.per_second} {planned.currency} a second",
        now=after,
        message="The price of this flavor changed.",
    )


def _digits(price: Decimal | None) -> str:
    return "" if price is None else f"{price.normalize():f}"
