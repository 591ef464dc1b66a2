"""Time that is being spent right now and is not in the ledger yet.

The ledger holds closed intervals only. What still runs is known to `deployments`, which billing must not
import; it registers a source here when its app is ready, and `GET /usage/` shows both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from marketplace.accounts.models import Organization
from marketplace.billing.metering import Stretch
from marketplace.billing.models import Price
from marketplace.hardware.models import Flavor, Region


@dataclass(frozen=True, kw_only=True)
class LiveUsage:
    """What one replica has used so far. What the ledger already holds of it is not counted again."""

    resource: str
    """Public id of the deployment or job."""
    resource_name: str
    replica_uid: str
    flavor: Flavor
    region: Region
    price: Price
    stretches: Sequence[Stretch]
    """As `ledger.record_usage` will receive them; the one that is still open ends now."""


Source = Callable[[Organization, datetime], Iterable[LiveUsage]]
"""(organization, now) -> what its replicas have used so far. Reads only; times come from facts, up to now."""

_sources: list[Source] = []


def register(source: Source) -> Source:
    """Adds a source; usable as a decorator. Registering the same function again changes nothing."""
    if source not in _sources:
        _sources.append(source)
    return source


def unregister(source: Source) -> None:
    """Takes a source away, if it is there."""
    if source in _sources:
        _sources.remove(source)


def live_usage(*, organization: Organization, now: datetime) -> list[LiveUsage]:
    """Everything that the sources report for one organization."""
    return [usage for source in _sources for usage in source(organization, now)]
