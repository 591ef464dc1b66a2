"""Time that is being spent right now and is not in the ledger yet.

The ledger holds closed intervals only. What still runs is known to `deployments`, which billing must not
import; it registers sources here when its app is ready, and `GET /usage/` shows both. A second kind of source
tells the whole lives of replicas that have ended, for `verify_ledger`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from marketplace.accounts.models import Organization
from marketplace.billing.metering import Gap, Stretch
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


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """What the cluster reported of a replica that has ended: all of it must be in the ledger."""

    replica_uid: str
    resource: str
    start: datetime
    """Of its container."""
    end: datetime
    outages: Sequence[Gap] = ()
    """When it did not answer, by no fault of the customer's: none of this may be billed."""


LifetimeSource = Callable[[], Iterable[Lifetime]]
"""() -> the replicas of all organizations that have ended and whose usage should be recorded by now."""

_lifetime_sources: list[LifetimeSource] = []


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


def register_lifetimes(source: LifetimeSource) -> LifetimeSource:
    """Adds a source of lifetimes; usable as a decorator. The same function again changes nothing."""
    if source not in _lifetime_sources:
        _lifetime_sources.append(source)
    return source


def unregister_lifetimes(source: LifetimeSource) -> None:
    """Takes a source away, if it is there."""
    if source in _lifetime_sources:
        _lifetime_sources.remove(source)


def lifetimes() -> list[Lifetime]:
    """Every lifetime that the sources report."""
    return [lifetime for source in _lifetime_sources for lifetime in source()]
