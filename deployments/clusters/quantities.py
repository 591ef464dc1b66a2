"""Kubernetes quantities ("500m", "2Gi") as numbers.

The official client has a parser too, but importing it brings the whole client along: 0.4 s and 40 MB for the
node of the local cluster, which needs nothing else of it. Grammar and suffixes:
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES = {
    **{"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_QUANTITY = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)(?P<suffix>[A-Za-z]*)")


def parse(text: str | int | float) -> Decimal:
    """The number: cpu in cores, memory in bytes. Raises ValueError when it is not a quantity."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None or match["suffix"] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity: write for example 2, 500m or 1.5Gi")
    return Decimal(match["number"]) * _SUFFIXES[match["suffix"]]


def amount(name: str, text: str | int | float) -> int:
    """A resource as scheduling counts it: cpu in millicores, everything else in units."""
    return int(parse(text) * (1000 if name == "cpu" else 1))
