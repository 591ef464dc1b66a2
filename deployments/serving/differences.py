"""What differs between two revisions, in the customer's terms. Works on what a revision stores and looks
nothing up, so that any two can be compared, however old.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.serving.models import Revision
from marketplace.billing.models import Price
from marketplace.catalog.models import ModelVersion
from marketplace.hardware.models import Flavor

NAMES = {"RUNTIME_DTYPE": "precision"}
"""Variables that customers know under another name; the others are called as without RUNTIME_."""
IMPLIED = frozenset(
    f"RUNTIME_{name}"
    for name in (
        *("TASK", "MODEL_DIR", "MODEL_NAME", "MODEL_REVISION", "DIGESTS", "CACHED"),
        *("ADAPTER_DIR", "ADAPTER_DIGESTS", "HOST", "PORT"),
    )
)
"""Variables that follow from the model or from where it runs."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One field. None: it is not set."""

    field: str
    before: Any
    after: Any


def facts_of_revision(revision: Revision) -> dict[str, Any]:
    """Field -> value of all that customers may compare. Reads `version`, `flavor` and `price`."""
    return facts_of(revision.spec, version=revision.version, flavor=revision.flavor, price=revision.price)


def facts_of(
    spec: Mapping[str, Any], *, version: ModelVersion, flavor: Flavor, price: Price
) -> dict[str, Any]:
    """The same of a revision that is not stored yet."""
    environment = spec.get("environment") or {}
    return {
        "model": version.public_id,
        "flavor": flavor.slug,
        "price_per_second": f"{price.per_second.normalize():f} {price.currency}",
        "image": spec.get("image"),
        **{
            NAMES.get(name, name.removeprefix("RUNTIME_").lower()): _number(value)
            for name, value in sorted(environment.items())
            if name not in IMPLIED
        },
    }


def find_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """The fields whose values differ, in the order in which they are told."""
    return [
        Difference(field=field, before=before.get(field), after=after.get(field))
        for field in {**after, **before}
        if before.get(field) != after.get(field)
    ]


def _number(value: str) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 16 else value
