"""Kubernetes quantities ("500m", "2Gi") as numbers. A typed front of the client's own parser."""

from __future__ import annotations

from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity


def parse(text: str | int | float | Decimal) -> Decimal:
    """The number: cpu in cores, memory in bytes. Raises ValueError when it is not a quantity."""
    return Decimal(parse_quantity(text))  # type: ignore[no-untyped-call]


def amount(name: str, text: str | int | float) -> int:
    """A resource as scheduling counts it: cpu in millicores, everything else in units."""
    return int(parse(text) * (1000 if name == "cpu" else 1))
