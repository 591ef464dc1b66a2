"""Looks at everything, every few seconds, so that losing a doorbell costs seconds and nothing else.

One list per cluster, one comparison in memory per row, and a doorbell only where there is something to do:
of a settled system the sweep changes nothing. It covers stopped and deleted rows, and finds what has no row
at all.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from deployments.clusters.capacity import remember_nodes
from deployments.clusters.errors import ClusterError
from deployments.clusters.port import Cluster, Observation, ObservedObject, ObservedPod
from deployments.clusters.registry import open_cluster
from deployments.reconcile.conditions import problem_in
from deployments.reconcile.kinds import LIVING, RELATED, Kind, Loaded, recorded_replicas
from deployments.reconcile.names import namespace_name
from deployments.reconcile.registry import KINDS
from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.steps import plan_steps
from deployments.reconcile.tenants import mend_tenants
from deployments.serving.models import Replica
from marketplace.hardware import models as hardware

log = logging.getLogger(__name__)

Ring = Callable[[str], object]
"""Says "look at this resource now" to whoever reconciles."""

_LOCK = 0x73776565_70  # "sweep", as a number


@dataclass
class Swept:
    """What one sweep found."""

    rows: int = 0
    rung: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    """Objects and pods without a row, or where their row has nothing, which were deleted."""
    mended: list[str] = field(default_factory=list)
    """What was changed of the objects that organizations' workloads share."""
    unreachable: list[str] = field(default_factory=list)
    """Clusters that gave no answer."""


def sweep(
    *,
    ring: Ring,
    now: Callable[[], datetime] = timezone.now,
    open_cluster: Callable[[hardware.Cluster], Cluster] = open_cluster,
) -> Swept | None:
    """Sweeps all clusters, one after another; None if another sweep is still at it.

    A cluster that is not enabled takes nothing new, but what it has is looked after all the same.
    """
    with _only_one() as mine:
        if not mine:
            return None
        swept = Swept()
        for row in hardware.Cluster.objects.order_by("pk"):
            try:
                sweep_cluster(row, cluster=open_cluster(row), ring=ring, now=now, swept=swept)
            except ClusterError as error:
                log.warning("cluster %s is left out of this sweep: %s", row, error)
                swept.unreachable.append(row.slug)
                _ring_for_new_wishes(row, ring=ring, now=now, swept=swept)
            except Exception:
                log.exception("cluster %s is left out of this sweep", row)
                swept.unreachable.append(row.slug)
        return swept


def sweep_cluster(
    row: hardware.Cluster, *, cluster: Cluster, ring: Ring, now: Callable[[], datetime], swept: Swept
) -> None:
    """Sweeps one cluster. Raises ClusterError if it cannot be observed."""
    # Observe first, read rows second: a row is there before its objects, so none is taken for an orphan.
    began = now()
    observed = cluster.observe()
    seen = split(observed)
    pods = {pod.uid: pod for part in seen.values() for pod in part.pods}
    replicas = recorded_replicas(Q(cluster=row), uids=pods.keys())
    _remember_observation(row, replicas, pods=pods, at=began)
    involved = seen.keys() | replicas.keys()
    known: set[str] = set()
    for kind in KINDS.values():
        unfinished = kind.unfinished().filter(cluster=row)
        # Of the finished ones, those that the cluster still shows, or whose replicas' end is not told yet.
        leftover = kind.rows().filter(cluster=row, public_id__in=involved)
        rows = list((unfinished | leftover).select_related(*RELATED))
        known.update(item.public_id for item in rows)
        swept.rows += len(rows)
        strays = _strays(kind, rows, seen=seen)
        for loaded in kind.load(rows, replicas=replicas):
            resource = loaded.row.public_id
            part = seen.get(resource, Observation())
            if resource in strays:
                part, stray = strays[resource]
                _remove(stray, f"{resource} has nothing there", row=row, cluster=cluster, swept=swept)
            if needs_a_look(kind, loaded, part, now=now()):
                swept.rung.append(loaded.row.public_id)
                ring(loaded.row.public_id)
    unknown = seen.keys() - known
    elsewhere = _rows_of_other_clusters(unknown)
    for resource in sorted(unknown):
        if resource in elsewhere:
            log.error("%s belongs to another cluster, and %s shows it: are they the same one?", resource, row)
            continue
        why = f"it belongs to {resource!r}, which does not exist"
        _remove(seen[resource], why, row=row, cluster=cluster, swept=swept)
    swept.mended += mend_tenants(observed, row=row, cluster=cluster)
    remember_nodes(row.slug, cluster.nodes())  # for plans, which call no cluster


def _remember_observation(
    row: hardware.Cluster,
    replicas: Mapping[str, Mapping[str, ReplicaFacts]],
    *,
    pods: Mapping[str, ObservedPod],
    at: datetime,
) -> None:
    """Keeps until when replicas are known to have lived, for those that vanish without a report, and until
    when they are known to have been ready, for those that were away between two looks.

    One write for the cluster stands for all replicas that were seen, so that nothing is written of a replica
    as long as it lives. In PostgreSQL, because bills depend on it.
    """
    living = [facts for known in replicas.values() for facts in known.values() if facts.ended_at is None]
    missing = {facts.uid for facts in living if facts.last_seen_at is None and facts.uid not in pods}
    changed = {
        facts.uid
        for facts in living
        if facts.uid in pods and facts.ready_seen_at is None and _readiness_changed(facts, pods[facts.uid])
    }
    with transaction.atomic():
        # They were last seen so by the sweep before this one: kept, because the next write forgets it.
        if missing and row.observed_at is not None:
            Replica.objects.filter(LIVING, uid__in=missing, last_seen_at=None).update(
                last_seen_at=row.observed_at
            )
        if changed and row.observed_at is not None:
            Replica.objects.filter(LIVING, uid__in=changed, ready_seen_at=None).update(
                ready_seen_at=row.observed_at
            )
        hardware.Cluster.objects.filter(pk=row.pk).update(observed_at=at)
    row.observed_at = at


def _readiness_changed(facts: ReplicaFacts, pod: ObservedPod) -> bool:
    known, seen = facts.ready_changed_at, pod.ready_changed_at
    return known is not None and seen is not None and seen > known


def needs_a_look(kind: Kind, loaded: Loaded, seen: Observation, *, now: datetime) -> bool:
    """Whether there is anything to record or to do for a row."""
    row = loaded.row
    if row.lease_token and row.lease_until > now:
        return False  # somebody looks at it
    resting = row.failures > 0 and row.next_look_at > now and row.generation == row.observed_generation
    try:
        decision = kind.decide(loaded, seen, now=now)
    except Exception:
        # A row that cannot be decided on steps aside in its own look, where the row can say so.
        if not resting:
            log.exception("%s cannot be decided on", row.public_id)
        return not resting
    if not resting:
        return not decision.is_settled
    # While the cluster refuses a step, what it reports is recorded all the same.
    problem = problem_in(row.conditions)
    return problem is not None and problem.is_known and decision.has_news


def split(seen: Observation) -> dict[str, Observation]:
    """Resource -> its part of the observation, without what organizations' workloads share."""
    objects: defaultdict[str, list[ObservedObject]] = defaultdict(list)
    pods: defaultdict[str, list[ObservedPod]] = defaultdict(list)
    for item in seen.objects:
        # Never an orphan either: see `tenants`, which knows what is shared.
        if item.resource:
            objects[item.resource].append(item)
    for pod in seen.pods:
        if pod.resource:
            pods[pod.resource].append(pod)
    return {
        resource: Observation(objects=tuple(objects[resource]), pods=tuple(pods[resource]))
        for resource in list(objects.keys() | pods.keys())
    }


def _rows_of_other_clusters(resources: Collection[str]) -> set[str]:
    """Those of the resources that have a row. Two rows that lead to one cluster must not undo each other.

    No query for none.
    """
    if not resources:
        return set()
    return {
        public_id
        for kind in KINDS.values()
        for public_id in kind.rows().filter(public_id__in=resources).values_list("public_id", flat=True)
    }


def _strays(
    kind: Kind, rows: Iterable[Any], *, seen: Mapping[str, Observation]
) -> dict[str, tuple[Observation, Observation]]:
    """Resource -> what is where its looks find it, and what is where they do not, if there is any such.

    No query as long as all is in the namespace that an organization's workloads usually have.
    """
    unusual = []
    for row in rows:
        part = seen.get(row.public_id)
        home = {namespace_name(row.organization.public_id)}
        if part is not None and not part.namespaces <= home:
            unusual.append(row)
    if not unusual:
        return {}
    namespaces = kind.namespaces(unusual)
    found = {}
    for row in unusual:
        part, within = seen[row.public_id], namespaces[row.public_id]
        if not part.namespaces <= within:
            found[row.public_id] = part.within(within), part.within(part.namespaces - within)
    return found


def _remove(items: Observation, why: str, *, row: hardware.Cluster, cluster: Cluster, swept: Swept) -> None:
    """Deletes what no look would delete. Nobody else would either, and somebody would pay for it."""
    for step in plan_steps((), items, unwanted=why):
        log.warning("cluster %s: %s", row, step)
        try:
            cluster.delete(step.ref)
            swept.orphans.append(str(step.ref))
        except ClusterError as error:
            log.warning("cluster %s: orphan %s stays for now: %s", row, step.ref, error)


def _ring_for_new_wishes(
    row: hardware.Cluster, *, ring: Ring, now: Callable[[], datetime], swept: Swept
) -> None:
    """Rows that were changed since they were looked at say at least that their cluster does not answer. Those
    that are to go are tried on, as often as they rest, because their deadline passes all the same."""
    for kind in KINDS.values():
        # A lease that has run out is nobody's: its holder died.
        for item in kind.unfinished().filter(cluster=row, lease_until__lte=Now()):
            if item.generation != item.observed_generation or (item.is_to_go and item.next_look_at <= now()):
                swept.rung.append(item.public_id)
                ring(item.public_id)


@contextmanager
def _only_one() -> Iterator[bool]:
    """Whether this is the only sweep. The lock belongs to the database session, so it cannot outlive us."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        (mine,) = cursor.fetchone()
    try:
        yield bool(mine)
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
