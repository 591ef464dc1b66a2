"""Deployments, for the reconciler: what is wanted of the cluster, and what the facts mean.

The rollout is this: the revision that serves stays until the one aimed at has taken over, and that it has
taken over is recorded before the old one is removed. Dying at any moment between leaves both, never none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import F, Q, QuerySet

from deployments.clusters.port import Cluster, Manifest, Observation
from deployments.clusters.registry import site_of
from deployments.reconcile.changes import endings, replica_changes
from deployments.reconcile.conditions import Problem, conditions_json, problem_in
from deployments.reconcile.decision import Decision, Happening
from deployments.reconcile.kinds import Loaded, changed, standing_problem
from deployments.reconcile.manifests import disruption_budgets, service, serving_deployment
from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.status import (
    ServingStatus,
    ServingWish,
    State,
    Wish,
    serving_revision,
    serving_status,
)
from deployments.reconcile.steps import plan_steps
from deployments.reconcile.usage import serving_stretches
from deployments.serving.models import Deployment, Revision
from deployments.serving.spec import ServingSpec
from marketplace.billing.metering import Stretch
from marketplace.billing.models import Price
from marketplace.hardware.models import Flavor

EVENT_REASONS = {
    State.PENDING: "WaitingForCapacity",
    State.INITIALIZING: "Starting",
    State.RUNNING: "Running",
    State.UPDATING: "Updating",
    State.UPDATE_FAILED: "UpdateFailed",
    State.PAUSED: "Paused",
    State.SCALED_TO_ZERO: "ScaledToZero",
    State.FAILED: "Failed",
    State.DELETING: "Deleting",
    State.DELETED: "Deleted",
}


class Serving:
    """The kind of workload that answers requests."""

    def rows(self) -> QuerySet[Deployment]:
        """All rows."""
        return Deployment.objects.all()

    def unfinished(self) -> QuerySet[Deployment]:
        """Every deployment that is not deleted: a paused one too must be shown to hold nothing."""
        return Deployment.objects.filter(deleted_at__isnull=True)

    def load(
        self, rows: Iterable[Deployment], *, replicas: Mapping[str, Mapping[str, ReplicaFacts]]
    ) -> list[Loaded]:
        """The rows with their revisions, in one query more."""
        rows = list(rows)
        wanted = Q(number=F("deployment__target_revision")) | Q(number=F("deployment__serving_revision"))
        revisions: dict[int, dict[int, Revision]] = {}
        found = Revision.objects.filter(wanted, deployment__in=rows).select_related("flavor", "price")
        for revision in found:
            revisions.setdefault(revision.deployment_id, {})[revision.number] = revision
        return [
            Loaded(
                row=row,
                revisions=revisions.get(row.pk, {}),
                replicas=replicas.get(row.public_id, {}),
            )
            for row in rows
        ]

    def gather(
        self, loaded: Loaded, seen: Observation, *, cluster: Cluster, renew: Callable[[], object]
    ) -> None:
        """Nothing: the observation tells all."""

    def decide(
        self,
        loaded: Loaded,
        seen: Observation,
        *,
        now: datetime,
        gathered: Any = None,
        problem: Problem | None = None,
    ) -> Decision:
        """Which revision serves, then what is wanted, then what to do, then what all of it means."""
        row: Deployment = loaded.row
        wish = ServingWish(
            desired=Wish(row.desired_state), replicas=row.desired_replicas, target=row.target_revision
        )
        serving = serving_revision(wish, before=row.serving_revision, seen=seen)
        kept = {wish.target} if serving is None else {wish.target, serving}
        steps = plan_steps(
            wanted_manifests(loaded, wish=wish, serving=serving), seen, unwanted=_unwanted(wish)
        )
        stored = problem_in(row.conditions)
        status = serving_status(
            wish,
            state_before=row.state,
            serving=serving,
            seen=seen,
            problem=standing_problem(row, problem=problem, stored=stored),
            settled=not steps and problem is None,
        )

        def stop_at(replica: ReplicaFacts) -> datetime | None:
            if wish.desired is not Wish.RUNNING:
                return row.stop_requested_at or now
            # A replaced revision is the provider's from the moment that the new one answers.
            return None if replica.revision in kept else now

        changes = replica_changes(
            seen.pods,
            recorded=loaded.replicas,
            stop_at=stop_at,
            stretches=self.stretches,
            now=now,
            observed_at=row.cluster.observed_at,
        )
        return Decision(
            columns=changed(
                row,
                state=status.state.value,
                serving_revision=status.serving,
                ready_replicas=status.ready_replicas,
                conditions=conditions_json(status.conditions, before=row.conditions, now=now),
                degradations=list(status.degradations),
                deleted_at=row.deleted_at or (now if status.state is State.DELETED else None),
                observed_generation=row.generation,
            ),
            replicas=changes,
            happenings=(*endings(changes), *_transitions(row, status)),
            steps=steps,
        )

    def stretches(self, replica: ReplicaFacts, *, until: datetime | None = None) -> list[Stretch]:
        """Starting, then serving."""
        return serving_stretches(replica, until=until)

    def tariff(self, loaded: Loaded, *, revision: int | None) -> tuple[Flavor, Price]:
        """The revision's own flavor and price: they may differ while one replaces another."""
        found = loaded.revisions.get(revision or 0)
        if found is None:
            # A replica of a revision that was neither aimed at nor serving when it ended.
            found = (
                Revision.objects.select_related("flavor", "price")
                .filter(deployment=loaded.row, number=revision or 0)
                .first()
            )
        source = found or loaded.row
        return source.flavor, source.price


def wanted_manifests(loaded: Loaded, *, wish: ServingWish, serving: int | None) -> tuple[Manifest, ...]:
    """The objects that should be on the cluster now: none, one revision, or the old beside the new."""
    if wish.desired is not Wish.RUNNING:
        return ()
    target = _spec(loaded, wish.target)
    specs = [target]
    answering = target
    if serving is not None and serving != wish.target:
        answering = _spec(loaded, serving)
        specs.append(answering)
    site = site_of(loaded.row.cluster)
    return (
        *(serving_deployment(spec, replicas=wish.replicas, site=site) for spec in specs),
        *disruption_budgets(answering, replicas=wish.replicas),
        service(answering),
    )


def _spec(loaded: Loaded, number: int) -> ServingSpec:
    return ServingSpec.from_json(loaded.revisions[number].spec)


def _unwanted(wish: ServingWish) -> str:
    if wish.desired is Wish.DELETED:
        return "the deployment is deleted"
    if wish.desired is Wish.PAUSED:
        return "the deployment is paused"
    return f"revision {wish.target} takes its place"


def _transitions(row: Deployment, status: ServingStatus) -> tuple[Happening, ...]:
    happenings = []
    if status.serving != row.serving_revision and status.serving is not None and row.serving_revision:
        happenings.append(
            Happening(
                reason="RevisionServing",
                message=f"Revision {status.serving} has taken over from revision {row.serving_revision}.",
            )
        )
    if status.state != row.state:
        told = next((it for it in status.conditions if it.type == "Updated"), status.conditions[0])
        happenings.append(Happening(reason=EVENT_REASONS[status.state], message=told.message))
    return tuple(happenings)
