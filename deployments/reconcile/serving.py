"""Deployments, for the reconciler: what is wanted of the cluster, and what the facts mean.

How one revision follows another is decided in `rollout`. That the new one has taken over is recorded before
the old one is removed: dying at any moment between leaves both, never none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db.models import F, Q, QuerySet

from deployments.clusters.port import Cluster, Manifest, Observation
from deployments.clusters.registry import site_of
from deployments.reconcile.changes import endings, outage_news, replica_changes
from deployments.reconcile.conditions import Problem, conditions_json, problem_in
from deployments.reconcile.decision import Decision, Happening
from deployments.reconcile.deletion import decide_deletion
from deployments.reconcile.explaining import deletion_explanation, serving_explanation
from deployments.reconcile.kinds import Loaded, changed, namespaces_of, standing_problem
from deployments.reconcile.manifests import disruption_budgets, service, serving_deployment
from deployments.reconcile.receipts import asked_of, deletions_of
from deployments.reconcile.replicas import ReplicaFacts
from deployments.reconcile.rollout import (
    Before,
    Canary,
    Failure,
    Rollout,
    ServingWish,
    Strategy,
    Wish,
    decide_rollout,
)
from deployments.reconcile.status import ServingStatus, State, serving_status
from deployments.reconcile.steps import plan_steps
from deployments.reconcile.usage import serving_stretches
from deployments.serving.models import Deployment, DesiredState, Revision
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
        going = [row.public_id for row in rows if row.desired_state == DesiredState.DELETED]
        deletions = deletions_of(going)
        wanted = Q()
        for column in ("target", "serving", "stable", "fallback"):
            wanted |= Q(number=F(f"deployment__{column}_revision"))
        revisions: dict[int, dict[int, Revision]] = {}
        found = Revision.objects.filter(wanted, deployment__in=rows).select_related("flavor", "price")
        for revision in found:
            revisions.setdefault(revision.deployment_id, {})[revision.number] = revision
        return [
            Loaded(
                row=row,
                revisions=revisions.get(row.pk, {}),
                deletion=deletions.get(row.public_id),
                replicas=replicas.get(row.public_id, {}),
            )
            for row in rows
        ]

    def namespaces(self, rows: Collection[Deployment]) -> Mapping[str, frozenset[str]]:
        """Those of all its revisions: one may move it from one way of attaching accelerators to another."""
        found: dict[int, set[str | None]] = {row.pk: set() for row in rows}
        ways = Revision.objects.filter(deployment__in=found)
        for row, way in ways.values_list("deployment", "spec__resources__attachment").distinct():
            found[row].add(way)
        return {row.public_id: namespaces_of(row, found[row.pk]) for row in rows}

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
        problem_now = standing_problem(row, problem=problem, stored=problem_in(row.conditions))
        if row.desired_state == DesiredState.DELETED:
            return self._delete(loaded, seen, now=now, problem=problem_now)
        wish = wish_of(row)
        rollout = decide_rollout(
            wish,
            before=_before(loaded),
            seen=seen,
            now=now,
            problem=problem_now,
            changed=row.generation != row.observed_generation,
        )
        steps = plan_steps(wanted_manifests(loaded, rollout), seen, unwanted=_unwanted(wish, rollout))
        status = serving_status(
            wish,
            rollout,
            state_before=row.state,
            seen=seen,
            problem=problem_now,
            settled=not steps and problem is None,
        )

        def stop_at(replica: ReplicaFacts) -> datetime | None:
            if wish.desired is not Wish.RUNNING:
                return row.stop_requested_at or now
            # A revision that was replaced or given up is the provider's from that moment on.
            return None if replica.revision in rollout.replicas else now

        changes = replica_changes(
            seen.pods,
            recorded=loaded.replicas,
            stop_at=stop_at,
            stretches=partial(self.stretches, loaded),
            now=now,
            observed_at=row.cluster.observed_at,
            pauses=row.pause_spans,
        )
        return Decision(
            columns=changed(
                row,
                state=status.state.value,
                serving_revision=status.serving,
                fallback_revision=rollout.fallback,
                rollout_since=rollout.since,
                ready_replicas=status.ready_replicas,
                conditions=conditions_json(status.conditions, before=row.conditions, now=now),
                degradations=list(status.degradations),
                explanation=serving_explanation(
                    status,
                    seen,
                    spec=loaded.revisions[row.target_revision].spec,
                    before=row.explanation,
                    now=now,
                ),
                observed_generation=row.generation,
            ),
            revisions=_revision_facts(loaded, wish, rollout, now=now),
            replicas=changes,
            happenings=(*outage_news(changes), *endings(changes), *_transitions(row, status)),
            steps=steps,
        )

    def _delete(
        self, loaded: Loaded, seen: Observation, *, now: datetime, problem: Problem | None
    ) -> Decision:
        """Nothing of the deployment is read here but its id and its wish: see `deletion`."""
        row: Deployment = loaded.row
        deleting = decide_deletion(asked_of(row, loaded.deletion, now=now), seen, now=now, problem=problem)
        state = State.DELETED if deleting.is_gone else State.DELETING
        changes = replica_changes(
            seen.pods,
            recorded=loaded.replicas,
            stop_at=lambda replica: row.stop_requested_at or now,
            stretches=partial(self.stretches, loaded),
            now=now,
            observed_at=row.cluster.observed_at,
            pauses=row.pause_spans,
        )
        message = deleting.conditions[0].message
        told = () if state == row.state else (Happening(reason=EVENT_REASONS[state], message=message),)
        return Decision(
            columns=changed(
                row,
                state=state.value,
                serving_revision=None if deleting.is_gone else row.serving_revision,
                rollout_since=None,
                ready_replicas=0,
                conditions=conditions_json(deleting.conditions, before=row.conditions, now=now),
                explanation=deletion_explanation(deleting, seen, before=row.explanation, now=now),
                degradations=[],
                deleted_at=row.deleted_at or (now if deleting.is_gone else None),
                observed_generation=row.generation,
            ),
            replicas=changes,
            deletion=deleting.record,
            happenings=(*endings(changes), *told, *deleting.happenings),
            steps=deleting.steps,
        )

    def stretches(
        self, loaded: Loaded, replica: ReplicaFacts, *, until: datetime | None = None
    ) -> list[Stretch]:
        """Starting, then serving."""
        return serving_stretches(replica, until=until, pauses=loaded.row.pause_spans)

    def specs(self, loaded: Loaded) -> Mapping[int | None, Mapping[str, Any]]:
        """Of the revisions that play a part."""
        return {number: revision.spec for number, revision in loaded.revisions.items()}

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


def wish_of(row: Deployment) -> ServingWish:
    """The wish block of a row as a value."""
    canary = None
    if row.canary_weight is not None and row.stable_revision is not None:
        canary = Canary(weight=row.canary_weight, stable=row.stable_revision)
    return ServingWish(
        desired=Wish(row.desired_state),
        replicas=row.desired_replicas,
        target=row.target_revision,
        strategy=Strategy(row.strategy),
        canary=canary,
        patience=timedelta(seconds=row.progress_seconds),
    )


def _before(loaded: Loaded) -> Before:
    row: Deployment = loaded.row
    target = loaded.revisions.get(row.target_revision)
    failure = Failure(**target.failure) if target is not None and target.failed_at is not None else None
    return Before(
        serving=row.serving_revision,
        fallback=row.fallback_revision,
        since=row.rollout_since,
        failure=failure,
        has_shared=target is not None and target.served_at is not None,
    )


def wanted_manifests(loaded: Loaded, rollout: Rollout) -> tuple[Manifest, ...]:
    """The objects that should be on the cluster now: none, one revision, or the old beside the new."""
    if rollout.answering is None:
        return ()
    specs = {number: _spec(loaded, number) for number in (*rollout.replicas, rollout.answering)}
    site = site_of(loaded.row.cluster)
    return (
        *(
            serving_deployment(specs[number], replicas=count, site=site)
            for number, count in rollout.replicas.items()
        ),
        *(
            budget
            for number, count in rollout.replicas.items()
            for budget in disruption_budgets(specs[number], replicas=count)
        ),
        service(specs[rollout.answering]),
    )


def _spec(loaded: Loaded, number: int) -> ServingSpec:
    return ServingSpec.from_json(loaded.revisions[number].spec)


def _unwanted(wish: ServingWish, rollout: Rollout) -> str:
    if wish.desired is Wish.PAUSED:
        return "the deployment is paused"
    if rollout.failure is not None:
        return f"revision {wish.target} was given up"
    return f"revision {wish.target} takes its place"


def _revision_facts(
    loaded: Loaded, wish: ServingWish, rollout: Rollout, *, now: datetime
) -> dict[int, dict[str, Any]]:
    """That a revision answers for the first time, and that the one aimed at was given up."""
    facts: dict[int, dict[str, Any]] = {}
    answers = (rollout.serving, wish.target if rollout.is_sharing else None)
    for number in answers:
        revision = loaded.revisions.get(number or 0)
        if revision is not None and revision.served_at is None:
            facts[revision.number] = {"served_at": now}
    target = loaded.revisions.get(wish.target)
    if rollout.failure is not None and target is not None and target.failed_at is None:
        facts.setdefault(target.number, {}).update(failed_at=now, failure=asdict(rollout.failure))
    return facts


def _transitions(row: Deployment, status: ServingStatus) -> tuple[Happening, ...]:
    happenings = []
    if status.serving != row.serving_revision and status.serving is not None and row.serving_revision:
        happenings.append(
            Happening(
                reason="RevisionServing",
                message=f"Revision {status.serving} has taken over from revision {row.serving_revision}.",
            )
        )
    updated = next((it for it in status.conditions if it.type == "Updated"), None)
    shared = any(it["type"] == "Updated" and it["reason"] == "Canary" for it in row.conditions)
    if updated is not None and updated.reason == "Canary" and not shared:
        happenings.append(Happening(reason="CanaryServing", message=updated.message))
    if status.state != row.state:
        told = updated or status.conditions[0]
        happenings.append(Happening(reason=EVENT_REASONS[status.state], message=told.message))
    return tuple(happenings)
