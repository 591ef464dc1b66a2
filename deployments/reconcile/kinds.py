"""What the reconciler's one loop needs to know of a kind of workload. See `serving`, `tuning`
and `workspaces`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Protocol

from django.db.models import Q, QuerySet

from deployments.clusters.port import Cluster, Observation
from deployments.reconcile.conditions import Problem
from deployments.reconcile.decision import Decision
from deployments.reconcile.names import namespace_name
from deployments.reconcile.outages import Outage
from deployments.reconcile.replicas import ReplicaFacts
from deployments.serving.models import Deletion, Replica, Revision
from marketplace.billing.metering import Stretch
from marketplace.billing.models import Price
from marketplace.hardware.attachments import Attachment
from marketplace.hardware.models import Flavor


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A row and what belongs to it, as one short read found them."""

    row: Any
    """A Deployment, a FineTuningJob or a Workspace."""
    revisions: Mapping[int, Revision] = field(default_factory=dict)
    """Of a deployment: the revision aimed at and the one that serves."""
    deletion: Deletion | None = None
    """Of a row whose customer wants it gone, unless that was long ago."""
    replicas: Mapping[str, ReplicaFacts] = field(default_factory=dict)
    """By uid: those that may still live, and those of the observation."""


class Kind(Protocol):
    """One kind of workload."""

    def rows(self) -> QuerySet[Any]:
        """All rows of the kind."""
        ...

    def unfinished(self) -> QuerySet[Any]:
        """Rows that the sweep has to look at even when nothing of them is on the cluster."""
        ...

    def load(
        self, rows: Iterable[Any], *, replicas: Mapping[str, Mapping[str, ReplicaFacts]]
    ) -> list[Loaded]:
        """The rows with what belongs to them, in a constant number of queries."""
        ...

    def namespaces(self, rows: Collection[Any]) -> Mapping[str, frozenset[str]]:
        """Public id -> the namespaces that anything of the row has ever been wanted in; at most one query."""
        ...

    def gather(
        self, loaded: Loaded, seen: Observation, *, cluster: Cluster, renew: Callable[[], object]
    ) -> Any:
        """What else has to be fetched over the network or from storage before deciding; None = nothing.

        What takes long calls `renew` on the way: it keeps the lease, or raises LeaseLost.
        """
        ...

    def decide(
        self,
        loaded: Loaded,
        seen: Observation,
        *,
        now: datetime,
        gathered: Any = None,
        problem: Problem | None = None,
    ) -> Decision:
        """What to record and what to do. Pure. Without `gathered` it answers what the sweep asks."""
        ...

    def stretches(
        self, loaded: Loaded, replica: ReplicaFacts, *, until: datetime | None = None
    ) -> list[Stretch]:
        """What a replica of the row has used."""
        ...

    def specs(self, loaded: Loaded) -> Mapping[int | None, Mapping[str, Any]]:
        """Number of the revision (None: of what has none) -> the stored specification, of those read."""
        ...

    def tariff(self, loaded: Loaded, *, revision: int | None) -> tuple[Flavor, Price]:
        """What a replica of a revision is billed by."""
        ...


RELATED = ("organization", "cluster__region", "flavor", "price")
"""What is read together with a row."""
LIVING = Q(finished_at__isnull=True, vanished_at__isnull=True)
"""Replicas that may still run."""
REPLICA_COLUMNS = tuple(item.name for item in fields(ReplicaFacts))


def facts_of(replica: Replica) -> ReplicaFacts:
    """A replica's row as a value."""
    columns = {name: getattr(replica, name) for name in REPLICA_COLUMNS}
    return ReplicaFacts(**columns | {"outages": tuple(map(Outage.from_json, replica.outages))})


def columns_of(facts: ReplicaFacts) -> dict[str, Any]:
    """The value as columns of a replica's row."""
    columns = {name: getattr(facts, name) for name in REPLICA_COLUMNS}
    return columns | {"outages": [outage.to_json() for outage in facts.outages]}


def recorded_replicas(within: Q, *, uids: Collection[str]) -> dict[str, dict[str, ReplicaFacts]]:
    """Resource -> uid -> facts, of replicas that may still live or that have one of the uids. One query."""
    found: dict[str, dict[str, ReplicaFacts]] = {}
    for replica in Replica.objects.filter(within, LIVING | Q(uid__in=uids)):
        found.setdefault(replica.resource, {})[replica.uid] = facts_of(replica)
    return found


def namespaces_of(row: Any, attachments: Iterable[str | None]) -> frozenset[str]:
    """The namespaces of a row's objects, whose accelerators are or were attached in these ways.

    All that its organization has when a specification does not say, or is not there any more: whatever is to
    be deleted must be found.
    """
    said = set(attachments)
    ways = (
        [way for way in Attachment if way in said] if said and said <= set(Attachment) else list(Attachment)
    )
    return frozenset(namespace_name(row.organization.public_id, attachment=way) for way in ways)


def changed(row: Any, **values: Any) -> dict[str, Any]:
    """Those of the values that differ from the row's."""
    return {name: value for name, value in values.items() if getattr(row, name) != value}


def standing_problem(row: Any, *, problem: Problem | None, stored: Problem | None) -> Problem | None:
    """The problem to tell of: of this attempt, else of the last one if that was for the same wish."""
    if problem is not None:
        return problem
    return stored if row.observed_generation == row.generation else None
